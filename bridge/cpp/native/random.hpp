// The random numbers of JAX: Threefry-2x32 with 20 rounds (Salmon et al. 2011), bit for bit.

#pragma once

#include <cstdint>
#include <utility>

namespace valyrian {

using Words = std::pair<uint32_t, uint32_t>;

inline Words threefry(Words key, Words x) {
  constexpr int rotations[] = {13, 15, 26, 6, 17, 29, 16, 24};
  const uint32_t keys[] = {key.first, key.second, key.first ^ key.second ^ 0x1BD11BDA};
  uint32_t a = x.first + keys[0], b = x.second + keys[1];
  for (uint32_t i = 0; i < 20; ++i) {
    const int r = rotations[i % 8];
    a += b;
    b = (b << r | b >> (32 - r)) ^ a;
    if (i % 4 == 3) {
      const uint32_t injection = i / 4 + 1;
      a += keys[injection % 3];
      b += keys[(injection + 1) % 3] + injection;
    }
  }
  return {a, b};
}

// Returns the number in [0, 1) that decides token `index` of a text:
// jax.random.uniform(jax.random.fold_in(jax.random.key(seed), index)).
inline float uniform(uint32_t seed, uint32_t index) {
  const auto [a, b] = threefry(threefry({0, seed}, {0, index}), {0, 0});
  return static_cast<float>((a ^ b) >> 9) / 8388608.0f;
}

}  // namespace valyrian
