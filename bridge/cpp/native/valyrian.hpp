// Runs a model that `python -m bridge export --format gguf` wrote: text in, text out.
//
//   valyrian::Model model("valyrian.gguf");
//   valyrian::Settings settings = model.defaults();
//   settings.seed = 7;
//   for (const std::string& piece : model.stream("Sīr vali", settings)) std::cout << piece;
//
// The same prompt, settings and seed give the same text as every other runtime of this project.
// Threads can share a const Model: everything that changes is in the texts that its methods return.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "error.hpp"
#include "gguf.hpp"
#include "gpt.hpp"
#include "mapped_file.hpp"
#include "sampler.hpp"
#include "settings.hpp"
#include "text.hpp"
#include "threads.hpp"
#include "tokenizer.hpp"

namespace valyrian {

// Returns where the window begins after `count` tokens: it drops halves of `positions`, the oldest
// first, until the rest fits.
inline size_t window_start(size_t count, size_t positions) {
  const size_t half = positions / 2;
  return count <= positions ? 0 : half * ((count - positions + half - 1) / half);
}

// The tokens of a text, and those of its window that the model has read.
class Generation {
 public:
  Generation(const Gpt& gpt, std::vector<int32_t> prompt, Settings settings)
      : settings_(std::move(settings)),
        tokens_(std::move(prompt)),
        prompt_size_(tokens_.size()),
        cache_(std::make_unique<Cache>(gpt.shape())) {}

  const Settings& settings() const { return settings_; }
  int32_t last_token() const { return tokens_.back(); }
  int64_t new_count() const { return static_cast<int64_t>(tokens_.size() - prompt_size_); }

  // Appends the tokens of the window that the model has not read.
  void append_unread(size_t positions, std::vector<Row>& rows) {
    const size_t start = window_start(tokens_.size(), positions);
    if (start != start_) read_ = 0;  // The window moved, and with it all positions.
    start_ = start;
    for (; start_ + read_ < tokens_.size(); ++read_) {
      const bool is_last = start_ + read_ + 1 == tokens_.size();
      rows.push_back({tokens_[start_ + read_], read_, cache_.get(), is_last});
    }
  }

  // Draws the next token from the logits after the last one.
  void draw(const Gpt& gpt, int32_t end_of_text, float* logits, SamplerBuffers& buffers) {
    tokens_.push_back(sample(gpt.kernels(), settings_, new_count(), logits, gpt.shape().vocabulary,
                             &tokens_[start_], tokens_.size() - start_, end_of_text, buffers));
  }

 private:
  Settings settings_;
  std::vector<int32_t> tokens_;
  size_t prompt_size_, start_ = 0, read_ = 0;
  std::unique_ptr<Cache> cache_;
};

class Model;

// A text that grows: a range of pieces of whole characters, or `next` for one of them.
class Stream {
 public:
  Stream(const Model& model, std::string_view prompt, const Settings& settings);

  // Sets the text that another token adds, perhaps an empty one; returns false after the end.
  bool next(std::string& piece);

  class Iterator {
   public:
    explicit Iterator(Stream* stream) : stream_(stream) { ++*this; }
    const std::string& operator*() const { return piece_; }
    Iterator& operator++() {
      if (stream_ && !stream_->next(piece_)) stream_ = nullptr;
      return *this;
    }
    bool operator!=(const Iterator& other) const { return stream_ != other.stream_; }

   private:
    Stream* stream_;
    std::string piece_;
  };

  Iterator begin() { return Iterator(this); }
  Iterator end() { return Iterator(nullptr); }

 private:
  const Model* model_;
  Generation generation_;
  TextStream text_;
  Workspace workspace_;
  SamplerBuffers buffers_;
  bool has_ended_ = false;
};

class Model {
 public:
  // Throws Error if the file is missing, damaged or of another kind.
  explicit Model(const std::string& path, std::string_view instructions = "")
      : Model(explain("cannot load " + path, kExpected, [&] {
          const MappedFile file(path);
          return Model(Gguf(file.data(), file.size()), instructions);
        })) {}

  // Reads the bytes of a file, which may be freed afterwards.
  Model(const void* data, size_t size, std::string_view instructions = "")
      : Model(explain("cannot load the bytes of a model", kExpected, [&] {
          return Model(Gguf(static_cast<const uint8_t*>(data), size), instructions);
        })) {}

  // The settings in the file, which every caller may change in a copy.
  const Settings& defaults() const { return defaults_; }
  const Gpt& gpt() const { return gpt_; }

  // The number of threads that work on each call, 1 by default. It does not change the texts.
  size_t threads() const { return threads_; }
  void set_threads(int64_t count) {
    if (count < 1 || count > kMostThreads) {
      fail("the number of threads is " + std::to_string(count) + ", expected 1 to " +
           std::to_string(kMostThreads) + "; pass another one");
    }
    threads_ = static_cast<size_t>(count);
  }

  int32_t end_of_text() const { return tokenizer_.end_of_text(); }

  // Any bytes become tokens, and `decode` returns valid UTF-8, with U+FFFD for malformed parts.
  std::vector<int32_t> encode(std::string_view text) const { return tokenizer_.encode(text); }
  std::string decode(const std::vector<int32_t>& ids) const {
    return replace_malformed(tokenizer_.decode(ids));
  }
  const std::string& bytes(int32_t id) const { return tokenizer_.bytes(id); }

  // Returns the tokens of a prompt; an empty prompt begins a document.
  std::vector<int32_t> encode_prompt(std::string_view prompt) const {
    auto ids = encode(replace_malformed(std::string(prompt)));
    if (ids.empty()) ids.push_back(end_of_text());
    return ids;
  }

  // The continuation of a prompt, piece by piece. An empty prompt starts a new document.
  Stream stream(std::string_view prompt, const Settings& settings) const {
    return Stream(*this, prompt, settings);
  }

  // Returns the prompt and its continuation.
  std::string generate(std::string_view prompt, const Settings& settings) const {
    return generate(std::vector<std::string>{std::string(prompt)}, {settings})[0];
  }

  // Continues prompts together, with settings for each; every text is the same as alone.
  std::vector<std::string> generate(const std::vector<std::string>& prompts,
                                    const std::vector<Settings>& settings) const {
    if (prompts.size() != settings.size()) {
      fail("the settings do not fit the prompts: expected " + std::to_string(prompts.size()) +
           ", found " + std::to_string(settings.size()) + "; pass settings for each prompt");
    }
    std::vector<std::string> texts;
    std::vector<TextStream> streams;
    std::vector<Generation> generations;
    for (size_t i = 0; i < prompts.size(); ++i) {
      texts.push_back(replace_malformed(prompts[i]));
      streams.emplace_back(settings[i].stop);
      generations.push_back(start(encode_prompt(prompts[i]), settings[i]));
    }
    extend_all(generations, [&](size_t i, int32_t token) {
      if (token == end_of_text()) return false;
      texts[i] += streams[i].add(bytes(token));
      return !streams[i].has_stopped();
    });
    for (size_t i = 0; i < texts.size(); ++i) texts[i] += streams[i].finish();
    return texts;
  }

  // Returns max_new_tokens tokens of each text, also after the end of a document.
  std::vector<std::vector<int32_t>> generate_ids(std::vector<Generation>& texts) const {
    std::vector<std::vector<int32_t>> ids(texts.size());
    extend_all(texts, [&](size_t i, int32_t token) {
      ids[i].push_back(token);
      return true;
    });
    return ids;
  }

  Generation start(std::vector<int32_t> prompt, const Settings& settings) const {
    check_settings(settings);
    check(!prompt.empty(), "a prompt has no token; pass that of the end of the document");
    for (const int32_t id : prompt) bytes(id);  // Fails for ids outside the vocabulary.
    return Generation(gpt_, std::move(prompt), settings);
  }

  // Draws the next token of every text.
  void extend(const std::vector<Generation*>& generations, Workspace& workspace,
              SamplerBuffers& buffers) const {
    std::vector<Row> rows, all;
    std::vector<Generation*> owners;
    for (Generation* const generation : generations) {
      generation->append_unread(gpt_.shape().positions, all);
      owners.resize(all.size(), generation);
    }
    for (size_t begin = 0; begin < all.size(); begin += rows.size()) {
      const size_t end = std::min(all.size(), begin + Gpt::kMaxRows);
      rows.assign(all.begin() + static_cast<std::ptrdiff_t>(begin),
                  all.begin() + static_cast<std::ptrdiff_t>(end));
      float* logits = gpt_.read(rows, workspace);
      for (size_t r = 0; r < rows.size(); ++r) {
        if (!rows[r].needs_logits) continue;
        owners[begin + r]->draw(gpt_, end_of_text(), logits, buffers);
        logits += gpt_.logits_stride();
      }
    }
  }

  // Returns the logits [T][V] of the next token after each of T tokens, at most a window of them.
  std::vector<float> logits(const std::vector<int32_t>& ids) const {
    const Shape& shape = gpt_.shape();
    if (ids.size() > shape.positions) {
      fail("there are too many tokens: expected at most " + std::to_string(shape.positions) +
           ", the window of the model, found " + std::to_string(ids.size()) + "; pass fewer");
    }
    Cache cache(shape);
    Workspace workspace(threads_);
    std::vector<float> all;
    for (size_t begin = 0; begin < ids.size(); begin += Gpt::kMaxRows) {
      std::vector<Row> rows;
      for (size_t i = begin; i < std::min(ids.size(), begin + Gpt::kMaxRows); ++i) {
        bytes(ids[i]);  // Fails for ids outside the vocabulary.
        rows.push_back({ids[i], i, &cache, true});
      }
      const float* const block = gpt_.read(rows, workspace);
      for (size_t r = 0; r < rows.size(); ++r) {
        const float* const row = block + r * gpt_.logits_stride();
        all.insert(all.end(), row, row + shape.vocabulary);
      }
    }
    return all;
  }

  // Returns the natural logarithm of the probability of each token but the first, at most a window.
  std::vector<double> score(const std::vector<int32_t>& ids) const {
    const std::vector<float> all = logits(ids);
    const size_t V = gpt_.shape().vocabulary;
    std::vector<double> scores;
    for (size_t t = 0; t + 1 < ids.size(); ++t) {
      const float* const row = &all[t * V];
      const double largest = static_cast<double>(*std::max_element(row, row + V));
      double total = 0;
      for (size_t i = 0; i < V; ++i) total += std::exp(static_cast<double>(row[i]) - largest);
      const auto next = static_cast<double>(row[static_cast<size_t>(ids[t + 1])]);
      scores.push_back(next - largest - std::log(total));
    }
    return scores;
  }

 private:
  // Draws the tokens of texts, up to max_new_tokens or until `add(index, token)` returns false.
  template <typename Add>
  void extend_all(std::vector<Generation>& texts, const Add& add) const {
    Workspace workspace(threads_);
    SamplerBuffers buffers;
    std::vector<Generation*> unfinished;
    for (Generation& text : texts) unfinished.push_back(&text);
    while (!unfinished.empty()) {
      extend(unfinished, workspace, buffers);
      const auto is_done = [&](Generation* text) {
        const auto index = static_cast<size_t>(text - texts.data());
        return !add(index, text->last_token()) ||
               text->new_count() == text->settings().max_new_tokens;
      };
      unfinished.erase(std::remove_if(unfinished.begin(), unfinished.end(), is_done),
                       unfinished.end());
    }
  }

  static constexpr const char* kExpected =
      "expected a file that `python -m bridge export --format gguf` wrote";

  Model(const Gguf& file, std::string_view instructions)
      : tokenizer_(file), gpt_(file, instructions) {
    for (const Number& number : kNumbers) {
      const std::string key = "valyrian.sample." + std::string(number.name);
      if (!file.has(key)) continue;
      const double value =
          number.whole ? static_cast<double>(file.whole(key, 0, UINT32_MAX)) : file.real(key);
      number.set(defaults_, value);
    }
    if (file.has("valyrian.sample.stop")) {
      for (const auto& stop : file.texts("valyrian.sample.stop")) defaults_.stop.emplace_back(stop);
    }
    check_settings(defaults_);
  }

  Tokenizer tokenizer_;
  Gpt gpt_;
  Settings defaults_;
  size_t threads_ = 1;
};

inline Stream::Stream(const Model& model, std::string_view prompt, const Settings& settings)
    : model_(&model),
      generation_(model.start(model.encode_prompt(prompt), settings)),
      text_(settings.stop),
      workspace_(model.threads()) {}

inline bool Stream::next(std::string& piece) {
  if (has_ended_) return false;
  model_->extend({&generation_}, workspace_, buffers_);
  const int32_t token = generation_.last_token();
  has_ended_ = token == model_->end_of_text();
  piece = has_ended_ ? "" : text_.add(model_->bytes(token));
  const bool is_full = generation_.new_count() == generation_.settings().max_new_tokens;
  has_ended_ = has_ended_ || text_.has_stopped() || is_full;
  if (has_ended_) piece += text_.finish();
  return true;
}

}  // namespace valyrian
