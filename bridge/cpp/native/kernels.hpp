// The arithmetic: matrices in panels, and the loops of kernels.inc for each instruction set. The
// program picks the best one that the processor has when it starts.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>
#include <vector>

#if defined(__x86_64__) && defined(__GNUC__)
#define VALYRIAN_HAS_AVX 1
#include <cpuid.h>
#include <immintrin.h>
#endif
#ifdef __wasm_simd128__
#include <wasm_simd128.h>
#endif

#include "error.hpp"
#include "gguf.hpp"

namespace valyrian {

// Memory for vectors: 64 bytes are a cache line, and the widest vector.
template <typename T>
struct Aligned {
  using value_type = T;
  Aligned() = default;
  template <typename U>
  Aligned(const Aligned<U>&) {}
  T* allocate(size_t n) {
    return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(64)));
  }
  void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t(64)); }
  bool operator==(const Aligned&) const { return true; }
  bool operator!=(const Aligned&) const { return false; }
};

template <typename T>
using Buffer = std::vector<T, Aligned<T>>;

constexpr size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

// A matrix [inputs, outputs]; outputs are rounded up to panels of 64, filled with zeros.
//
// Float16 stays as it is. Q8_0 lies in blocks of 64 outputs x 32 inputs, each input group of 4
// together, as the instructions for int8 want it: [outputs / 64][inputs / 32][8][64][4].
struct Matrix {
  TensorType type = TensorType::f32;
  size_t inputs = 0, outputs = 0;
  Buffer<float> floats;     // [outputs / 64][inputs][64], or nothing
  Buffer<uint16_t> halves;  // the same in float16
  Buffer<int8_t> bytes;     // the levels of Q8_0
  Buffer<float> scales;     // their scales, [outputs / 64][inputs / 32][64]
  Buffer<float> bias;       // [outputs]
};

// Rows in int8 for a product with Q8_0: x = scale x level.
struct Levels {
  size_t blocks = 0;        // of 32 numbers in a row
  Buffer<int32_t> levels;   // [rows][blocks][8], 4 levels each
  Buffer<float> scales;     // [rows][blocks]
  Buffer<int32_t> sums;     // [rows][blocks], of the levels
};

// The keys [width][positions] and the values [positions][padded_width] of one head.
struct HeadCache {
  const float *keys, *values;
  size_t positions, width, padded_width;
};

struct Kernels {
  const char* name;
  int weight_offset;  // added to the levels of Q8_0 when they are packed
  void (*round_rows)(const float* x, size_t x_stride, size_t rows, size_t inputs, Levels&);
  void (*multiply)(const Matrix&, size_t panel, const float* x, size_t x_stride, size_t rows,
                   const Levels&, bool adds, float* y);
  void (*normalize)(const float* x, const float* gain, const float* bias, size_t n, float epsilon,
                    float* y);
  void (*gelu)(float* x, size_t n);
  float (*exponentiate)(float* x, size_t n, float largest, float scale);
  float (*find_largest)(const float* x, size_t n);
  void (*scale_and_order)(float* logits, size_t n, float temperature, int32_t* order);
  float (*sum_exactly)(const float* weights, size_t n);
  void (*keep_top)(const int32_t* order, const float* weights, size_t n, float limit, float* kept);
  void (*attend)(const float* q, const HeadCache&, size_t count, float* scores, float* out);
};

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("O3")  // g++ -O2 does not keep the tiles in registers
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are passed only within one namespace
#endif

namespace base {
#define VALYRIAN_LANES 4
#define VALYRIAN_NAME "base"
#define VALYRIAN_INSTRUCTIONS "instructions_base.inc"
#include "kernels.inc"
#undef VALYRIAN_LANES
#undef VALYRIAN_NAME
#undef VALYRIAN_INSTRUCTIONS
}  // namespace base

#ifdef VALYRIAN_HAS_AVX
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
namespace avx2 {
#define VALYRIAN_LANES 8
#define VALYRIAN_NAME "avx2"
#define VALYRIAN_INSTRUCTIONS "instructions_avx2.inc"
#include "kernels.inc"
#undef VALYRIAN_LANES
#undef VALYRIAN_NAME
#undef VALYRIAN_INSTRUCTIONS
}  // namespace avx2
#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#endif
namespace avx512 {
#define VALYRIAN_LANES 16
#define VALYRIAN_NAME "avx512"
#define VALYRIAN_INSTRUCTIONS "instructions_avx512.inc"
#include "kernels.inc"
#undef VALYRIAN_LANES
#undef VALYRIAN_NAME
#undef VALYRIAN_INSTRUCTIONS
}  // namespace avx512
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#pragma GCC pop_options
#endif

#ifdef VALYRIAN_HAS_AVX
// Returns the size of the largest vectors that the processor and the system have, in floats. It asks
// the processor, because `__builtin_cpu_supports` does not know f16c in clang 14, and is always false
// in programs that zig 0.17 builds.
inline int count_lanes() {
  unsigned int a = 0, b = 0, c = 0, d = 0, saved = 0;
  constexpr unsigned int kAvx = bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & kAvx) != kAvx) return 4;
  __asm__("xgetbv" : "=a"(saved), "=d"(d) : "c"(0));  // the registers that the system saves
  constexpr unsigned int kSaved = 0x6, kSaved512 = 0xE6;
  if ((saved & kSaved) != kSaved || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 4;
  if (!(b & bit_AVX2)) return 4;
  constexpr unsigned int kAvx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
  const bool has_avx512 = (b & kAvx512) == kAvx512 && (c & bit_AVX512VNNI);
  return has_avx512 && (saved & kSaved512) == kSaved512 ? 16 : 8;
}
#endif

// Returns the kernels of an instruction set: base, avx2 or avx512; "" picks the best one here.
inline const Kernels& select_kernels(std::string_view name) {
#ifdef VALYRIAN_HAS_AVX
  const int lanes = count_lanes();
  if (lanes == 16 && (name.empty() || name == "avx512")) return avx512::kKernels;
  if (lanes >= 8 && (name.empty() || name == "avx2")) return avx2::kKernels;
#endif
  if (!name.empty() && name != "base") {
    fail("this processor has no instructions " + quote(name) + "; expected base, avx2 or avx512");
  }
  return base::kKernels;
}

}  // namespace valyrian
