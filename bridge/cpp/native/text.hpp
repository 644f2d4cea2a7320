// The text of tokens as they come: whole characters, up to the first stop string.

#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "utf8.hpp"

namespace valyrian {

// Returns where the stop string that is complete first begins, or npos. Of two that end together,
// it is the longer one.
inline size_t find_stop(const std::string& bytes, const std::vector<std::string>& stops) {
  size_t first_start = std::string::npos, first_end = std::string::npos;
  for (const auto& stop : stops) {
    const size_t start = bytes.find(stop);
    if (start == std::string::npos) continue;
    const size_t end = start + stop.size();
    if (end < first_end || (end == first_end && start < first_start)) {
      first_start = start;
      first_end = end;
    }
  }
  return first_start;
}

// Returns the length of the longest suffix of the bytes that is a prefix of a stop string.
inline size_t count_held(const std::string& bytes, const std::vector<std::string>& stops) {
  size_t held = 0;
  for (const auto& stop : stops) {
    for (size_t size = std::min(stop.size() - 1, bytes.size()); size > held; --size) {
      if (bytes.compare(bytes.size() - size, size, stop, 0, size) == 0) held = size;
    }
  }
  return held;
}

// Takes the bytes of tokens, and returns the text that can no longer change: bytes that could still
// become a stop string or a character are held back.
class TextStream {
 public:
  explicit TextStream(const std::vector<std::string>& stop) {
    for (const auto& text : stop) stop_.push_back(replace_malformed(text));
  }

  std::string add(const std::string& bytes) {
    held_ += bytes;
    const size_t start = find_stop(held_, stop_);
    has_stopped_ = start != std::string::npos;
    const size_t size = has_stopped_ ? start : held_.size() - count_held(held_, stop_);
    unread_.append(held_, 0, size);
    released_ += size;
    held_.erase(0, has_stopped_ ? std::string::npos : size);
    return take_characters(unread_, false);
  }

  // Returns the rest, at the end of the text.
  std::string finish() {
    unread_ += held_;
    released_ += held_.size();
    held_.clear();
    return take_characters(unread_, true);
  }

  bool has_stopped() const { return has_stopped_; }
  size_t released() const { return released_; }  // bytes that are part of the text

 private:
  std::vector<std::string> stop_;
  std::string held_;    // may be the beginning of a stop string
  std::string unread_;  // the beginning of a character
  size_t released_ = 0;
  bool has_stopped_ = false;
};

}  // namespace valyrian
