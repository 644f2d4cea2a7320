// A GGUF file. Nothing in it is trusted: every offset, count and size is checked against the bytes
// that are there, before anything is allocated.
//
// The format: "GGUF", version, number of tensors, number of metadata values; the values (key, type,
// value); the tensors (name, shape, type, offset); padding; the data of the tensors. Numbers are
// little-endian. A shape lists the fastest axis first, so a matrix is [in, out] with rows of `in`.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "error.hpp"

namespace valyrian {

// A position in the bytes of a file; no read goes beyond their end.
class Cursor {
 public:
  Cursor(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  const uint8_t* take(uint64_t count) {
    check(count <= size_ - at_, "it is damaged: it ends early");
    at_ += static_cast<size_t>(count);
    return data_ + at_ - count;
  }

  template <typename Number>
  Number take_number() {
    Number value;
    std::memcpy(&value, take(sizeof value), sizeof value);
    return value;
  }

  std::string_view take_text() {
    const auto size = take_number<uint64_t>();
    return {reinterpret_cast<const char*>(take(size)), static_cast<size_t>(size)};
  }

  size_t position() const { return at_; }

 private:
  const uint8_t* data_;
  size_t size_, at_ = 0;
};

enum class TensorType : uint32_t { f32 = 0, f16 = 1, q8_0 = 8 };

// Q8_0 stores 32 numbers as one float16, the scale, and 32 signed bytes.
constexpr size_t kBlock = 32, kBlockBytes = 34;

struct Tensor {
  TensorType type;
  std::vector<size_t> shape;
  const uint8_t* data;

  size_t row_bytes() const {
    return type == TensorType::f32   ? shape[0] * 4
           : type == TensorType::f16 ? shape[0] * 2
                                     : shape[0] / kBlock * kBlockBytes;
  }
};

inline float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t rest = static_cast<uint32_t>(half & 0x7FFF) << 13;
  float value;  // The exponents of float16 and float32 differ by 112.
  std::memcpy(&value, &rest, sizeof value);
  value *= 0x1p112f;
  if ((half & 0x7C00) == 0x7C00) value = (half & 0x3FF) ? NAN : HUGE_VALF;
  return sign ? -value : value;
}

inline float read_half(const uint8_t* bytes) {
  return half_to_float(static_cast<uint16_t>(bytes[0] | bytes[1] << 8));
}

// Decodes row `row` of a tensor to float32.
inline void decode_row(const Tensor& tensor, size_t row, float* out) {
  const uint8_t* data = tensor.data + row * tensor.row_bytes();
  const size_t count = tensor.shape[0];
  if (tensor.type == TensorType::f32) {
    std::memcpy(out, data, count * sizeof *out);
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    if (tensor.type == TensorType::f16) {
      out[i] = read_half(data + 2 * i);
    } else {
      const uint8_t* const block = data + i / kBlock * kBlockBytes;
      const auto level = static_cast<int8_t>(block[2 + i % kBlock]);
      out[i] = read_half(block) * static_cast<float>(level);
    }
  }
}

// The metadata and the tensors of a file's bytes, which must outlive it and what it returns.
class Gguf {
 public:
  Gguf(const uint8_t* data, size_t size) : data_(data), size_(size), cursor_(data, size) {
    check(size >= 24 && std::memcmp(cursor_.take(4), "GGUF", 4) == 0,
          "it is not a GGUF file");
    const auto version = cursor_.take_number<uint32_t>();
    check(version == 2 || version == 3, "its GGUF version is not 2 or 3");
    const auto tensor_count = cursor_.take_number<uint64_t>();
    const auto value_count = cursor_.take_number<uint64_t>();
    // Every value and tensor takes bytes, so these loops end with the file at the latest.
    for (uint64_t i = 0; i < value_count; ++i) read_value();
    std::vector<uint64_t> offsets;
    for (uint64_t i = 0; i < tensor_count; ++i) offsets.push_back(read_tensor());
    const auto alignment = has("general.alignment") ? whole("general.alignment", 1, 1 << 20) : 32;
    const auto position = static_cast<uint64_t>(cursor_.position());
    const uint64_t begin = (position + alignment - 1) / alignment * alignment;
    for (size_t i = 0; i < offsets.size(); ++i) place_tensor(*order_[i], offsets[i], begin);
  }

  bool has(std::string_view key) const { return values_.count(key) > 0; }

  // Returns an integer from `low` to `high`.
  uint64_t whole(std::string_view key, uint64_t low, uint64_t high) const {
    const Value& value = find(key);
    if (!is_whole(value.type)) fail("its value " + quote(key) + " is not a whole number");
    const int64_t number = read_whole(value.type, value.data);
    if (number < 0 || static_cast<uint64_t>(number) < low || static_cast<uint64_t>(number) > high) {
      fail("its value " + quote(key) + " is " + std::to_string(number) + ", expected " +
           std::to_string(low) + " to " + std::to_string(high));
    }
    return static_cast<uint64_t>(number);
  }

  double real(std::string_view key) const {
    const Value& value = find(key);
    if (is_whole(value.type)) return static_cast<double>(read_whole(value.type, value.data));
    if (value.type == f64) return Cursor(value.data, 8).take_number<double>();
    if (value.type != f32) fail("its value " + quote(key) + " is not a number");
    return static_cast<double>(Cursor(value.data, 4).take_number<float>());
  }

  std::string_view text(std::string_view key) const {
    const Value& value = find(key);
    if (value.type != string) fail("its value " + quote(key) + " is not a string");
    return Cursor(value.data, SIZE_MAX).take_text();  // Its size was checked.
  }

  std::vector<std::string_view> texts(std::string_view key) const {
    const Value& value = find(key);
    if (value.type != array || value.element != string) {
      fail("its value " + quote(key) + " is not a list of strings");
    }
    Cursor cursor(value.data, SIZE_MAX);
    std::vector<std::string_view> all;
    for (uint64_t i = 0; i < value.count; ++i) all.push_back(cursor.take_text());
    return all;
  }

  std::vector<int64_t> wholes(std::string_view key) const {
    const Value& value = find(key);
    if (value.type != array || !is_whole(value.element)) {
      fail("its value " + quote(key) + " is not a list of whole numbers");
    }
    std::vector<int64_t> all;
    const size_t size = size_of(value.element);
    for (size_t i = 0; i < value.count; ++i) {
      all.push_back(read_whole(value.element, value.data + i * size));
    }
    return all;
  }

  bool has_tensor(std::string_view name) const { return tensors_.count(name) > 0; }

  const Tensor& tensor(std::string_view name, const std::vector<size_t>& shape) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) fail("it has no tensor " + quote(name));
    if (found->second.shape != shape) fail("its tensor " + quote(name) + " has another shape");
    return found->second;
  }

 private:
  enum Type : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

  struct Value {
    Type type, element;
    uint64_t count;
    const uint8_t* data;
  };

  static size_t size_of(Type type) {
    constexpr size_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return sizes[type];
  }

  static bool is_whole(Type type) { return type <= i32 || type == u64 || type == i64; }

  static int64_t read_whole(Type type, const uint8_t* data) {
    Cursor cursor(data, 8);
    switch (type) {
      case u8: return cursor.take_number<uint8_t>();
      case i8: return cursor.take_number<int8_t>();
      case u16: return cursor.take_number<uint16_t>();
      case i16: return cursor.take_number<int16_t>();
      case u32: return cursor.take_number<uint32_t>();
      case i32: return cursor.take_number<int32_t>();
      default: return cursor.take_number<int64_t>();  // Above 2^63 it is negative: refused.
    }
  }

  Type take_type() {
    const auto type = cursor_.take_number<uint32_t>();
    check(type <= f64, "it is damaged: a value has an unknown type");
    return static_cast<Type>(type);
  }

  void read_value() {
    const std::string_view key = cursor_.take_text();
    Value value{take_type(), u8, 1, nullptr};
    value.element = value.type;
    if (value.type == array) {
      value.element = take_type();
      check(value.element != array, "it is damaged: it has a list of lists");
      value.count = cursor_.take_number<uint64_t>();
    }
    value.data = cursor_.take(0);
    if (value.element == string) {
      for (uint64_t i = 0; i < value.count; ++i) cursor_.take_text();
    } else {
      const size_t size = size_of(value.element);
      check(value.count <= size_ / size, "it is damaged: a list is longer than the file");
      cursor_.take(value.count * size);
    }
    if (!values_.emplace(key, value).second) fail("its value " + quote(key) + " occurs twice");
  }

  // Returns the offset of the tensor's data.
  uint64_t read_tensor() {
    const std::string_view name = cursor_.take_text();
    Tensor tensor{};
    const auto dimensions = cursor_.take_number<uint32_t>();
    check(dimensions >= 1 && dimensions <= 4, "it is damaged: a tensor has 0 or over 4 dimensions");
    uint64_t elements = 1;
    for (uint32_t i = 0; i < dimensions; ++i) {
      const auto size = cursor_.take_number<uint64_t>();
      check(size >= 1 && size <= size_ && elements <= size_ / size,
            "it is damaged: a tensor is larger than the file");
      elements *= size;
      tensor.shape.push_back(static_cast<size_t>(size));
    }
    tensor.type = static_cast<TensorType>(cursor_.take_number<uint32_t>());
    if (tensor.type != TensorType::f32 && tensor.type != TensorType::f16 &&
        tensor.type != TensorType::q8_0) {
      fail("its tensor " + quote(name) + " has the type " +
           std::to_string(static_cast<uint32_t>(tensor.type)) +
           ", expected float32, float16 or q8_0");
    }
    check(tensor.type != TensorType::q8_0 || tensor.shape[0] % kBlock == 0,
          "it is damaged: a row of a q8_0 tensor is not a multiple of 32 numbers");
    const auto [place, is_new] = tensors_.emplace(name, tensor);
    if (!is_new) fail("its tensor " + quote(name) + " occurs twice");
    order_.push_back(&place->second);
    return cursor_.take_number<uint64_t>();
  }

  void place_tensor(Tensor& tensor, uint64_t offset, uint64_t begin) {
    uint64_t size = tensor.row_bytes();  // at most 4 bytes an element, and file size elements
    for (size_t i = 1; i < tensor.shape.size(); ++i) size *= tensor.shape[i];
    const uint64_t end = size_;
    check(begin <= end && offset <= end - begin && size <= end - begin - offset,
          "it is damaged: the data of a tensor ends beyond the file");
    tensor.data = data_ + begin + offset;
  }

  const Value& find(std::string_view key) const {
    const auto found = values_.find(key);
    if (found == values_.end()) fail("it has no value " + quote(key));
    return found->second;
  }

  const uint8_t* data_;
  size_t size_;
  Cursor cursor_;
  std::map<std::string_view, Value> values_;
  std::map<std::string_view, Tensor> tensors_;
  std::vector<Tensor*> order_;  // in the order of the file
};

}  // namespace valyrian
