// The sampler of valyrian_jax/generation/sampler.py: no end of the document before min_new_tokens,
// repetition penalty, temperature, top-k, softmax, min-p, nucleus, and a draw in id order.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels.hpp"
#include "random.hpp"
#include "settings.hpp"

namespace valyrian {

struct SamplerBuffers {
  Buffer<int32_t> order;     // integers in the order of the logits
  Buffer<float> ones;        // counts tokens
  std::vector<bool> is_seen;  // whether a token occurs in the window
};

// Turns logits into the probabilities of the tokens that may be drawn, and 0 for the others. The
// memory at `logits` must have room for a multiple of 64 numbers.
inline void filter(const Kernels& kernels, const Settings& settings, float* logits, size_t n,
                   SamplerBuffers& buffers) {
  const size_t padded = round_up(n, 64);
  buffers.order.resize(padded);
  int32_t* const order = buffers.order.data();
  kernels.scale_and_order(logits, n, static_cast<float>(settings.temperature), order);
  float* const weights = logits;  // from here on
  kernels.exponentiate(weights, n, kernels.find_largest(logits, n), 1);
  if (settings.top_k > 0 && static_cast<size_t>(settings.top_k) < n) {
    buffers.ones.assign(padded, 1);
    const auto limit = static_cast<float>(settings.top_k);
    kernels.keep_top(order, buffers.ones.data(), n, limit, weights);
  }
  const float total = kernels.sum_exactly(weights, n);
  for (size_t i = 0; i < n; ++i) weights[i] /= total;
  if (settings.min_p > 0) {  // The largest weight was 1.
    const float least = static_cast<float>(settings.min_p) * (1 / total);
    for (size_t i = 0; i < n; ++i) weights[i] = weights[i] < least ? 0 : weights[i];
  }
  if (settings.top_p < 1) {
    // A top_p that rounds to 0 keeps one token too.
    const auto top_p = static_cast<float>(settings.top_p);
    const float limit = std::max(top_p, std::numeric_limits<float>::min());
    kernels.keep_top(order, weights, n, limit, weights);
  }
}

// Returns the first token, in id order, whose running sum exceeds u times the total.
inline int32_t draw(const Kernels& kernels, const float* weights, size_t n, float u) {
  const float threshold = u * kernels.sum_exactly(weights, n);
  double running = 0;
  size_t last = 0;
  for (size_t i = 0; i < n; ++i) {
    if (weights[i] == 0) continue;
    running += static_cast<double>(weights[i]);
    last = i;
    if (static_cast<float>(running) > threshold) break;
  }
  return static_cast<int32_t>(last);
}

inline void check_finite(const Kernels& kernels, const float* logits, size_t n) {
  bool is_right = true;  // A single minus infinity is allowed.
  for (size_t i = 0; i < n; ++i) is_right &= logits[i] < INFINITY;
  check(is_right && kernels.find_largest(logits, n) > -INFINITY,
        "the logits are not finite: expected finite numbers, found NaN or infinity, because the "
        "weights overflow float32; use other weights, or train again with a lower --optim.lr");
}

// Changes the logits of token `index` as the settings ask, before any token is left out.
//
// window: the tokens that gave the logits; end_of_text: the token that ends a document.
inline void edit_logits(const Settings& settings, int64_t index, float* logits, size_t n,
                        const int32_t* window, size_t window_size, int32_t end_of_text,
                        SamplerBuffers& buffers) {
  if (index < settings.min_new_tokens) logits[end_of_text] = -INFINITY;
  if (settings.repetition_penalty != 1) {  // as in CTRL (Keskar et al. 2019)
    const auto penalty = static_cast<float>(settings.repetition_penalty);
    buffers.is_seen.assign(n, false);
    for (size_t i = 0; i < window_size; ++i) {
      const auto token = static_cast<size_t>(window[i]);
      if (buffers.is_seen[token]) continue;
      buffers.is_seen[token] = true;
      logits[token] = logits[token] > 0 ? logits[token] / penalty : logits[token] * penalty;
    }
  }
}

// Draws token `index` of a text from its logits, which change.
inline int32_t sample(const Kernels& kernels, const Settings& settings, int64_t index, float* logits,
                      size_t n, const int32_t* window, size_t window_size, int32_t end_of_text,
                      SamplerBuffers& buffers) {
  check_finite(kernels, logits, n);
  edit_logits(settings, index, logits, n, window, window_size, end_of_text, buffers);
  check_finite(kernels, logits, n);
  if (settings.temperature == 0) {
    return static_cast<int32_t>(std::max_element(logits, logits + n) - logits);
  }
  const float u = uniform(static_cast<uint32_t>(settings.seed), static_cast<uint32_t>(index));
  filter(kernels, settings, logits, n, buffers);
  return draw(kernels, logits, n, u);
}

}  // namespace valyrian
