// The C interface: handles around the classes of valyrian.hpp, and errors as return values.

#include "valyrian.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "valyrian.hpp"

struct valyrian_model {
  valyrian::Model model;
  std::vector<const char*> stop;  // the strings of the settings in the file
};

struct valyrian_text {
  valyrian::Stream stream;
  std::string piece;
};

namespace {

thread_local std::string last_error;

// Calls a function; returns `failed` if it throws, and keeps the message.
template <typename Result, typename Function>
Result guard([[maybe_unused]] Result failed, Function function) {
#ifdef __cpp_exceptions
  try {
    return function();
  } catch (const std::exception& error) {
    last_error = error.what();
    return failed;
  }
#else
  return function();
#endif
}

valyrian::Settings to_settings(const valyrian_settings& c) {
  return {c.max_new_tokens,     c.temperature,    c.top_k, c.top_p, c.min_p,
          c.repetition_penalty, c.min_new_tokens, {c.stop, c.stop + c.stop_count}, c.seed};
}

valyrian_model* make_handle(valyrian::Model model) {
  auto* const handle = new valyrian_model{std::move(model), {}};
  for (const auto& text : handle->model.defaults().stop) handle->stop.push_back(text.c_str());
  return handle;
}

// Copies at most `capacity` elements; returns how many there are.
template <typename Container, typename Element>
int64_t copy(const Container& elements, Element* out, size_t capacity) {
  std::copy_n(elements.begin(), std::min(elements.size(), capacity), out);
  return static_cast<int64_t>(elements.size());
}

}  // namespace

const char* valyrian_error() { return last_error.c_str(); }

valyrian_model* valyrian_load(const char* path, const char* instructions) {
  return guard<valyrian_model*>(
      nullptr, [&] { return make_handle(valyrian::Model(path, instructions ? instructions : "")); });
}

valyrian_model* valyrian_load_bytes(const void* data, size_t size, const char* instructions) {
  return guard<valyrian_model*>(nullptr, [&] {
    return make_handle(valyrian::Model(data, size, instructions ? instructions : ""));
  });
}

void valyrian_free(valyrian_model* model) { delete model; }

int valyrian_set_threads(valyrian_model* model, int64_t count) {
  return guard(-1, [&] {
    model->model.set_threads(count);
    return 0;
  });
}

valyrian_settings valyrian_defaults(const valyrian_model* model) {
  const valyrian::Settings& s = model->model.defaults();
  return {s.max_new_tokens,     s.temperature,    s.top_k, s.top_p,            s.min_p,
          s.repetition_penalty, s.min_new_tokens, s.seed,  model->stop.data(), model->stop.size()};
}

size_t valyrian_vocabulary(const valyrian_model* model) {
  return model->model.gpt().shape().vocabulary;
}

size_t valyrian_positions(const valyrian_model* model) {
  return model->model.gpt().shape().positions;
}

valyrian_text* valyrian_start(const valyrian_model* model, const char* prompt, size_t size,
                              const valyrian_settings* settings) {
  return guard<valyrian_text*>(nullptr, [&] {
    const valyrian::Settings chosen = settings ? to_settings(*settings) : model->model.defaults();
    return new valyrian_text{model->model.stream({prompt, size}, chosen), ""};
  });
}

int valyrian_next(valyrian_text* text, const char** piece, size_t* size) {
  return guard(-1, [&] {
    const bool goes_on = text->stream.next(text->piece);
    *piece = text->piece.data();
    *size = goes_on ? text->piece.size() : 0;
    return goes_on ? 1 : 0;
  });
}

void valyrian_end(valyrian_text* text) { delete text; }

int64_t valyrian_encode(const valyrian_model* model, const char* text, size_t size, int32_t* ids,
                        size_t capacity) {
  return guard<int64_t>(
      -1, [&] { return copy(model->model.encode({text, size}), ids, capacity); });
}

int64_t valyrian_decode(const valyrian_model* model, const int32_t* ids, size_t count, char* text,
                        size_t capacity) {
  return guard<int64_t>(
      -1, [&] { return copy(model->model.decode({ids, ids + count}), text, capacity); });
}

int valyrian_logits(const valyrian_model* model, const int32_t* ids, size_t count, float* logits) {
  return guard(-1, [&] {
    copy(model->model.logits({ids, ids + count}), logits,
         count * model->model.gpt().shape().vocabulary);
    return 0;
  });
}
