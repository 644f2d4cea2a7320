// The sampler of valyrian_jax/generation/sampler.py: no end of the document before min_new_tokens,
// repetition penalty, temperature, top-k, softmax, min-p, nucleus, and a draw in id order.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels.hpp"
#include "random.hpp"
#include "settings.hpp"

namespace valyrian {

struct SamplerBuffers {
  Buffer<float> weights;
  Buffer<int32_t> order;
};

// Maps floats to integers of the same order.
inline int32_t order_of(float value) {
  value += 0.0f;  // turns -0.0 into 0.0
  int32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits < 0 ? bits ^ 0x7FFFFFFF : bits;
}

// Sets the weight to 0 of all tokens but those before which the weights sum to less than a limit,
// by descending value, and by lower id among equal ones. A bisection finds the lowest value above
// which they do; sorting would take as long as half of the model.
inline void keep_top(const Kernels& kernels, const Buffer<int32_t>& order, const float* weights,
                     float limit, float* kept) {
  const size_t n = order.size();
  const auto is_within = [&](int64_t threshold) {
    return kernels.sum_above(order.data(), weights, n, static_cast<int32_t>(threshold)) < limit;
  };
  const auto [least, most] = std::minmax_element(order.begin(), order.end());
  int64_t low = *least, high = *most;  // Above the highest value the sum is 0.
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (is_within(middle)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  const auto lowest = static_cast<int32_t>(low);
  float preceding = kernels.sum_above(order.data(), weights, n, lowest);
  for (size_t i = 0; i < n; ++i) {
    if (order[i] == lowest) {
      const float weight = weights[i];
      if (!(preceding < limit)) kept[i] = 0;
      preceding += weight;
    } else if (order[i] < lowest) {
      kept[i] = 0;
    }
  }
}

// Returns the sum as PyTorch does: added up in order in float64, then rounded to float32.
inline float sum_in_order(const float* weights, size_t n) {
  double total = 0;
  for (size_t i = 0; i < n; ++i) total += static_cast<double>(weights[i]);
  return static_cast<float>(total);
}

// Turns logits into the probabilities of the tokens that may be drawn, and 0 for the others.
inline void filter(const Kernels& kernels, const Settings& settings, float* logits, size_t n,
                   SamplerBuffers& buffers) {
  const auto temperature = static_cast<float>(settings.temperature);
  for (size_t i = 0; i < n; ++i) logits[i] /= temperature;
  const bool has_top_k = settings.top_k > 0 && static_cast<size_t>(settings.top_k) < n;
  if (has_top_k || settings.top_p < 1) {
    buffers.order.assign(round_up(n, 64), std::numeric_limits<int32_t>::min());
    for (size_t i = 0; i < n; ++i) buffers.order[i] = order_of(logits[i]);
  }
  float* const weights = logits;  // from here on
  kernels.exponentiate(weights, n, kernels.find_largest(logits, n));
  if (has_top_k) {
    buffers.weights.assign(buffers.order.size(), 1);
    const auto limit = static_cast<float>(settings.top_k);
    keep_top(kernels, buffers.order, buffers.weights.data(), limit, weights);
  }
  const float total = sum_in_order(weights, n);
  for (size_t i = 0; i < n; ++i) weights[i] /= total;
  if (settings.min_p > 0) {  // The largest weight was 1.
    const float least = static_cast<float>(settings.min_p) * (1 / total);
    for (size_t i = 0; i < n; ++i) weights[i] = weights[i] < least ? 0 : weights[i];
  }
  if (settings.top_p < 1) {
    // A top_p that rounds to 0 keeps one token too.
    const auto top_p = static_cast<float>(settings.top_p);
    const float limit = std::max(top_p, std::numeric_limits<float>::min());
    keep_top(kernels, buffers.order, weights, limit, weights);
  }
}

// Returns the first token, in id order, whose running sum exceeds u times the total.
inline int32_t draw(const float* weights, size_t n, float u) {
  const float threshold = u * sum_in_order(weights, n);
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

// Draws token `index` of a text from its logits, which change.
//
// window: the tokens that gave the logits; end_of_text: the token that ends a document.
inline int32_t sample(const Kernels& kernels, const Settings& settings, int64_t index, float* logits,
                      size_t n, const int32_t* window, size_t window_size, int32_t end_of_text,
                      SamplerBuffers& buffers) {
  check_finite(kernels, logits, n);
  if (index < settings.min_new_tokens) logits[end_of_text] = -INFINITY;
  if (settings.repetition_penalty != 1) {  // as in CTRL (Keskar et al. 2019)
    const auto penalty = static_cast<float>(settings.repetition_penalty);
    buffers.weights.assign(n, 0);  // whether a token was seen
    for (size_t i = 0; i < window_size; ++i) {
      const auto token = static_cast<size_t>(window[i]);
      if (buffers.weights[token] != 0) continue;
      buffers.weights[token] = 1;
      logits[token] = logits[token] > 0 ? logits[token] / penalty : logits[token] * penalty;
    }
  }
  check_finite(kernels, logits, n);
  if (settings.temperature == 0) {
    return static_cast<int32_t>(std::max_element(logits, logits + n) - logits);
  }
  const float u = uniform(static_cast<uint32_t>(settings.seed), static_cast<uint32_t>(index));
  filter(kernels, settings, logits, n, buffers);
  return draw(logits, n, u);
}

}  // namespace valyrian
