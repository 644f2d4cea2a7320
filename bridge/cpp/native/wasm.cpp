// The runner in a browser: what bridge/web/site/runner.js calls. Build it with build_wasm.py.
//
// An instance holds one model and one text. A function that fails does not return: it throws an
// error of JavaScript, and after that the instance must not be used.

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "valyrian.hpp"

#define EXPORT(name) extern "C" __attribute__((export_name(#name)))

extern "C" __attribute__((import_module("page"), import_name("fail"))) void throw_error(
    const char* message);

namespace {

using valyrian::Buffer;
using valyrian::Row;
using valyrian::Settings;

constexpr size_t kMaxChoices = 16;  // as in bridge/web/session.py

struct Choice {
  int32_t id;
  float probability;
  int32_t is_kept;
};

// A token and the distribution that it was drawn from; see describe_distribution in
// bridge/web/session.py. runner.js reads it as numbers of 4 bytes.
struct Drawn {
  int32_t id, released, kept, choice_count;
  float probability, chance;
  Choice choices[kMaxChoices + 1];  // the most probable tokens, and the token itself
};

enum End : int32_t { goes_on, document, length, stop };

struct Text {
  valyrian::Generation generation;
  valyrian::TextStream stream;
  std::vector<int32_t> tokens;  // with the prompt
  Buffer<float> probabilities{};  // [V], after temperature and top-k
  valyrian::Workspace workspace{};
  valyrian::SamplerBuffers buffers{};
};

std::unique_ptr<valyrian::Model> model;
std::unique_ptr<Text> text;
Drawn drawn;

size_t vocabulary() { return model->gpt().shape().vocabulary; }

// Returns the logits after the last token of the text.
float* read_logits() {
  const size_t positions = model->gpt().shape().positions;
  std::vector<Row> rows;
  text->generation.append_unread(positions, rows);
  float* logits = nullptr;
  for (auto begin = rows.cbegin(); begin < rows.cend();) {
    const auto end = begin + std::min<std::ptrdiff_t>(rows.cend() - begin, valyrian::Gpt::kMaxRows);
    logits = model->gpt().read({begin, end}, text->workspace);
    begin = end;
  }
  return logits;
}

// Sets the probabilities of the next token, before min-p and top-p, from its logits.
void find_probabilities(const float* logits) {
  text->probabilities.assign(logits, logits + model->gpt().logits_stride());
  Settings settings = text->generation.settings();
  const size_t start = valyrian::window_start(text->tokens.size(), model->gpt().shape().positions);
  valyrian::edit_logits(settings, text->generation.new_count(), text->probabilities.data(),
                        vocabulary(), &text->tokens[start], text->tokens.size() - start,
                        model->end_of_text(), text->buffers);
  if (settings.temperature == 0) {
    settings.temperature = 1;
    settings.top_k = 0;
  }
  settings.top_p = 1;
  settings.min_p = 0;
  valyrian::filter(model->gpt().kernels(), settings, text->probabilities.data(), vocabulary(),
                   text->buffers);
}

// Describes the token that was drawn from `weights`, which are 0 for the tokens that were left out.
void describe_token(const float* weights) {
  const auto& p = text->probabilities;
  const int32_t token = text->generation.last_token();
  const bool is_greedy = text->generation.settings().temperature == 0;
  const auto probability = [&](int32_t id) { return p[static_cast<size_t>(id)]; };
  const auto is_kept = [&](int32_t id) {
    return is_greedy ? id == token : weights[static_cast<size_t>(id)] > 0;
  };
  std::vector<int32_t> ids(vocabulary());
  std::iota(ids.begin(), ids.end(), 0);
  const size_t count = std::min(kMaxChoices, ids.size());
  const auto last = ids.begin() + static_cast<std::ptrdiff_t>(count);
  std::partial_sort(ids.begin(), last, ids.end(), [&](int32_t a, int32_t b) {
    return probability(a) > probability(b) || (probability(a) == probability(b) && a < b);
  });
  drawn.kept = drawn.choice_count = 0;
  double total = 0;
  for (const int32_t id : ids) {
    if (!is_kept(id)) continue;
    ++drawn.kept;
    total += static_cast<double>(probability(id));
  }
  const auto list = [&](int32_t id) {
    drawn.choices[drawn.choice_count++] = {id, probability(id), is_kept(id)};
  };
  std::for_each(ids.begin(), last, [&](int32_t id) {
    if (probability(id) > 0) list(id);
  });
  if (std::find(ids.begin(), last, token) == last) list(token);
  drawn.id = token;
  drawn.probability = probability(token);
  drawn.chance = static_cast<float>(static_cast<double>(drawn.probability) / total);
}

}  // namespace

EXPORT(allocate) void* allocate(size_t size) { return ::operator new(size); }
EXPORT(release) void release(void* memory) { ::operator delete(memory); }

// Loads the bytes of a GGUF file, which may be freed afterwards; returns the id that ends a text.
EXPORT(load) int32_t load(const void* data, size_t size) {
  valyrian::error_handler = throw_error;
  model = std::make_unique<valyrian::Model>(data, size);
  return model->end_of_text();
}

EXPORT(token_bytes) const char* token_bytes(int32_t id) { return model->bytes(id).data(); }
EXPORT(token_size) size_t token_size(int32_t id) { return model->bytes(id).size(); }

// Begins a text; returns the number of tokens of its prompt.
//
// numbers: the settings in the order of NUMBERS in runner.js; stops: the stop strings, joined.
EXPORT(start) size_t start(const char* prompt, size_t size, const double* numbers,
                           const char* stops, const uint32_t* stop_sizes, size_t stop_count) {
  const auto whole = [](double number) {
    valyrian::check(number >= -1e15 && number <= 1e15, "a setting is not a whole number");
    return static_cast<int64_t>(number);
  };
  Settings settings{whole(numbers[0]), numbers[1], whole(numbers[2]), numbers[3],       numbers[4],
                    numbers[5],        whole(numbers[6]), {},         whole(numbers[7])};
  for (size_t i = 0; i < stop_count; ++i) {
    settings.stop.emplace_back(stops, stop_sizes[i]);
    stops += stop_sizes[i];
  }
  std::vector<int32_t> tokens = model->encode_prompt({prompt, size});
  text.reset(
      new Text{model->start(tokens, settings), valyrian::TextStream(settings.stop), tokens});
  return tokens.size();
}

EXPORT(tokens) const int32_t* tokens() { return text->tokens.data(); }
EXPORT(token) const Drawn* token() { return &drawn; }

// Draws a token; returns why the text ends with it, or 0. Unless `describes` is 0, this also computes
// the distribution for `token`.
EXPORT(step) int32_t step(int32_t describes) {
  float* const logits = read_logits();
  if (describes) find_probabilities(logits);
  text->generation.draw(model->gpt(), model->end_of_text(), logits, text->buffers);
  if (describes) describe_token(logits);
  drawn.id = text->generation.last_token();
  text->tokens.push_back(drawn.id);
  if (drawn.id == model->end_of_text()) return document;
  text->stream.add(model->bytes(drawn.id));
  drawn.released = static_cast<int32_t>(text->stream.released());
  if (text->stream.has_stopped()) return stop;
  const Settings& settings = text->generation.settings();
  return text->generation.new_count() == settings.max_new_tokens ? length : goes_on;
}
