// A few threads that share the parts of short tasks, each of some microseconds.
//
// Every free thread takes the next part. So the caller does all parts if the other threads get no
// processor, and it waits only for parts that another thread has begun.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#ifndef __wasm__
#define VALYRIAN_HAS_THREADS 1
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#endif

namespace valyrian {

constexpr int64_t kMostThreads = 64;

#ifdef VALYRIAN_HAS_THREADS

class Threads {
 public:
  // The caller is one of `count` threads.
  explicit Threads(size_t count) {
    for (size_t i = 1; i < count; ++i) helpers_.emplace_back([this] { help(); });
  }
  ~Threads() {
    is_over_ = true;
    wake();
    for (std::thread& helper : helpers_) helper.join();
  }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  // Calls task(0) to task(parts - 1), in any order, and returns when all are done.
  template <typename Task>
  void run(size_t parts, const Task& task) {
    if (helpers_.empty() || parts < 2) {
      for (size_t i = 0; i < parts; ++i) task(i);
      return;
    }
    call_ = [](const void* any, size_t part) { (*static_cast<const Task*>(any))(part); };
    task_ = &task;
    unfinished_ = parts;
    untaken_ = parts;  // From here on, others see the task.
    if (sleeping_ > 0) wake();
    take_parts();
    while (unfinished_ > 0) std::this_thread::yield();
  }

 private:
  static constexpr int kSpins = 2000;  // about ten microseconds

  // A part belongs to the task that is current at that moment, which stays until the part is done.
  void take_parts() {
    size_t part = untaken_;
    while (part > 0) {
      if (!untaken_.compare_exchange_weak(part, part - 1)) continue;
      call_(task_, part - 1);
      --unfinished_;
      part = untaken_;
    }
  }

  void help() {
    while (!is_over_) {
      take_parts();
      for (int i = 0; i < kSpins && !is_ready(); ++i) pause();
      if (is_ready()) continue;
      std::unique_lock<std::mutex> lock(mutex_);
      ++sleeping_;
      condition_.wait(lock, [this] { return is_ready(); });
      --sleeping_;
    }
  }

  bool is_ready() const { return untaken_ > 0 || is_over_; }

  void wake() {
    { const std::lock_guard<std::mutex> lock(mutex_); }  // No thread is between test and sleep.
    condition_.notify_all();
  }

  static void pause() {
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
  }

  void (*call_)(const void* task, size_t part) = nullptr;
  const void* task_ = nullptr;
  std::atomic<size_t> untaken_{0}, unfinished_{0};
  std::atomic<int> sleeping_{0};
  std::atomic<bool> is_over_{false};
  std::mutex mutex_;
  std::condition_variable condition_;
  std::vector<std::thread> helpers_;  // last, so that they begin when the rest is there
};

#else

class Threads {
 public:
  explicit Threads(size_t) {}
  template <typename Task>
  void run(size_t parts, const Task& task) {
    for (size_t i = 0; i < parts; ++i) task(i);
  }
};

#endif

}  // namespace valyrian
