// The transformer of GPT-2: x + attention(norm(x)), then x + MLP(norm(x)), for each block.
//
// One function reads tokens: one of a text, a block of a prompt, or one of each of many texts. They
// are rows of the same matrices; only attention asks which row belongs to which text.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "error.hpp"
#include "gguf.hpp"
#include "kernels.hpp"
#include "threads.hpp"

namespace valyrian {

// The sizes: width D, heads H of K numbers each, layers L, positions P, vocabulary V.
struct Shape {
  size_t width, heads, layers, positions, vocabulary;

  size_t head_width() const { return width / heads; }
  size_t padded_head_width() const { return round_up(head_width(), 16); }
  size_t padded_positions() const { return round_up(positions, 64); }
  size_t head_cache_size() const {
    return head_width() * padded_positions() + positions * padded_head_width();
  }
};

// The keys and values of the tokens of one text that the model has read.
class Cache {
 public:
  explicit Cache(const Shape& shape)
      : shape_(shape), data_(shape.layers * shape.heads * shape.head_cache_size()) {}

  HeadCache head(size_t layer, size_t head) const {
    const float* const keys = begin(layer, head);
    const size_t keys_size = shape_.head_width() * shape_.padded_positions();
    return {keys, keys + keys_size, shape_.padded_positions(), shape_.head_width(),
            shape_.padded_head_width()};
  }

  // Writes the key and the value of a position, [H][K] each.
  void write(size_t layer, size_t position, const float* key, const float* value) {
    const size_t K = shape_.head_width(), P = shape_.padded_positions();
    for (size_t h = 0; h < shape_.heads; ++h) {
      float* const keys = const_cast<float*>(begin(layer, h));
      for (size_t k = 0; k < K; ++k) keys[k * P + position] = key[h * K + k];
      float* const values = keys + K * P + position * shape_.padded_head_width();
      std::memcpy(values, value + h * K, K * sizeof *values);
    }
  }

 private:
  const float* begin(size_t layer, size_t head) const {
    return data_.data() + (layer * shape_.heads + head) * shape_.head_cache_size();
  }

  Shape shape_;
  Buffer<float> data_;
};

// A token to read, at a position of a text's window.
struct Row {
  int32_t token;
  size_t position;
  Cache* cache;
  bool needs_logits;
};

// Memory and threads that a caller lends to the model; concurrent callers each need their own.
struct Workspace {
  explicit Workspace(size_t thread_count = 1)
      : threads(std::make_unique<Threads>(thread_count)) {}

  std::unique_ptr<Threads> threads;
  Buffer<float> states, normed, qkv, mixed, hidden, scores, logits;
  Levels levels;
};

class Gpt {
 public:
  static constexpr size_t kMaxRows = 64;  // read at once

  explicit Gpt(const Gguf& file, std::string_view instructions = "")
      : kernels_(&select_kernels(instructions)) {
    check(file.text("general.architecture") == "gpt2", "its architecture is not gpt2");
    const auto size = [&](const char* key, uint64_t high) {
      return static_cast<size_t>(file.whole(std::string("gpt2.") + key, 1, high));
    };
    const size_t D = size("embedding_length", 1 << 16);
    const size_t V = file.texts("tokenizer.ggml.tokens").size();
    shape_ = {D, size("attention.head_count", D), size("block_count", 1 << 12),
              size("context_length", 1 << 20), V};
    check(D % shape_.heads == 0, "its width is not a multiple of its number of heads");
    check(size("feed_forward_length", 1 << 18) == 4 * D, "its MLP is not 4 times its width");
    const std::string_view activation =  // without this key, llama.cpp's: with tanh
        file.has("valyrian.activation") ? file.text("valyrian.activation") : "gelu_new";
    check(activation == "gelu_new" || activation == "gelu", "its activation is not a GELU");
    has_exact_gelu_ = activation == "gelu";
    epsilon_ = static_cast<float>(file.real("gpt2.attention.layer_norm_epsilon"));
    check(epsilon_ > 0 && epsilon_ < 1, "its layer norm epsilon is not between 0 and 1");

    token_embedding_ = read_rows(file, "token_embd.weight", D, V);
    position_embedding_ = read_rows(file, "position_embd.weight", D, shape_.positions);
    for (size_t i = 0; i < shape_.layers; ++i) {
      const std::string prefix = "blk." + std::to_string(i) + ".";
      blocks_.push_back({read_norm(file, prefix + "attn_norm"),
                         read_matrix(file, prefix + "attn_qkv", D, 3 * D),
                         read_matrix(file, prefix + "attn_output", D, D),
                         read_norm(file, prefix + "ffn_norm"),
                         read_matrix(file, prefix + "ffn_up", D, 4 * D),
                         read_matrix(file, prefix + "ffn_down", 4 * D, D)});
    }
    output_norm_ = read_norm(file, "output_norm");
    const bool is_tied = !file.has_tensor("output.weight");
    head_ = read_panels(file, is_tied ? "token_embd.weight" : "output.weight", D, V);
  }

  const Shape& shape() const { return shape_; }
  const Kernels& kernels() const { return *kernels_; }
  size_t logits_stride() const { return head_.outputs; }

  // Reads up to kMaxRows tokens, and writes their keys and values into their caches. The rows of a
  // text have increasing positions, and all positions before the first were read.
  //
  // Returns the logits of the rows that need them, each logits_stride() after the last.
  float* read(const std::vector<Row>& all_rows, Workspace& work) const {
    const size_t D = shape_.width, W = round_up(D, 64);
    std::vector<Row> rows = all_rows;
    const size_t wide = round_up(3 * D, 64), hidden = round_up(4 * D, 64);
    work.states.resize(rows.size() * W);
    work.normed.resize(rows.size() * W);
    work.mixed.resize(rows.size() * W);
    work.qkv.resize(rows.size() * wide);
    work.hidden.resize(rows.size() * hidden);
    work.scores.resize(shape_.heads * scores_size());
    for (size_t r = 0; r < rows.size(); ++r) {
      const float* const token = &token_embedding_[static_cast<size_t>(rows[r].token) * D];
      const float* const position = &position_embedding_[rows[r].position * D];
      for (size_t i = 0; i < D; ++i) work.states[r * W + i] = token[i] + position[i];
    }
    for (size_t layer = 0; layer < shape_.layers; ++layer) {
      const Block& block = blocks_[layer];
      normalize(block.attention_norm, rows.size(), work);
      multiply(block.qkv, work.normed, W, rows.size(), work, false, work.qkv);
      for (size_t r = 0; r < rows.size(); ++r) {
        const float* const key = &work.qkv[r * wide + D];
        rows[r].cache->write(layer, rows[r].position, key, key + D);
      }
      if (layer + 1 == shape_.layers) keep_needed(rows, work, W, wide);
      attend(layer, rows, work);
      multiply(block.attention_output, work.mixed, W, rows.size(), work, true, work.states);
      normalize(block.mlp_norm, rows.size(), work);
      multiply(block.mlp_up, work.normed, W, rows.size(), work, false, work.hidden);
      activate(rows.size() * hidden, work);
      multiply(block.mlp_down, work.hidden, hidden, rows.size(), work, true, work.states);
    }
    normalize(output_norm_, rows.size(), work);
    work.logits.resize(rows.size() * head_.outputs);
    multiply(head_, work.normed, W, rows.size(), work, false, work.logits);
    return work.logits.data();
  }

 private:
  struct Norm {
    Buffer<float> gain, bias;
  };

  struct Block {
    Norm attention_norm;
    Matrix qkv, attention_output;
    Norm mlp_norm;
    Matrix mlp_up, mlp_down;
  };

  static Buffer<float> read_rows(const Gguf& file, const std::string& name, size_t width,
                                 size_t count) {
    const Tensor& tensor = file.tensor(name, {width, count});
    Buffer<float> rows(width * count);
    for (size_t i = 0; i < count; ++i) decode_row(tensor, i, &rows[i * width]);
    return rows;
  }

  // Reads a vector, padded with zeros to a multiple of 64.
  static Buffer<float> read_vector(const Gguf& file, const std::string& name, size_t size) {
    const Tensor& tensor = file.tensor(name, {size});
    Buffer<float> vector(round_up(size, 64));
    decode_row(tensor, 0, vector.data());
    return vector;
  }

  Norm read_norm(const Gguf& file, const std::string& name) const {
    return {read_vector(file, name + ".weight", shape_.width),
            read_vector(file, name + ".bias", shape_.width)};
  }

  // Reads a matrix whose rows in the file are its outputs, and packs it into panels.
  Matrix read_panels(const Gguf& file, const std::string& name, size_t inputs,
                     size_t outputs) const {
    const Tensor& tensor = file.tensor(name, {inputs, outputs});
    Matrix matrix{tensor.type, inputs, round_up(outputs, 64), {}, {}, {}, {}, {}};
    matrix.bias.resize(matrix.outputs);
    const size_t size = inputs * matrix.outputs;
    if (tensor.type == TensorType::f32) matrix.floats.resize(size);
    if (tensor.type == TensorType::f16) matrix.halves.resize(size);
    if (tensor.type == TensorType::q8_0) {
      matrix.bytes.resize(size);
      matrix.scales.resize(size / kBlock);
    }
    for (size_t o = 0; o < outputs; ++o) {
      const uint8_t* const row = tensor.data + o * tensor.row_bytes();
      const size_t panel = o / 64 * 64 * inputs, output = o % 64;
      for (size_t i = 0; i < inputs; ++i) {
        if (tensor.type == TensorType::f32) {
          std::memcpy(&matrix.floats[panel + i * 64 + output], row + 4 * i, 4);
        } else if (tensor.type == TensorType::f16) {
          std::memcpy(&matrix.halves[panel + i * 64 + output], row + 2 * i, 2);
        } else {
          const uint8_t* const block = row + i / kBlock * kBlockBytes;
          const int level = static_cast<int8_t>(block[2 + i % kBlock]) + kernels_->weight_offset;
          matrix.bytes[panel + i / 4 * 256 + output * 4 + i % 4] = static_cast<int8_t>(level);
          matrix.scales[panel / kBlock + i / kBlock * 64 + output] = read_half(block);
        }
      }
    }
    return matrix;
  }

  Matrix read_matrix(const Gguf& file, const std::string& name, size_t inputs,
                     size_t outputs) const {
    Matrix matrix = read_panels(file, name + ".weight", inputs, outputs);
    matrix.bias = read_vector(file, name + ".bias", outputs);
    return matrix;
  }

  void normalize(const Norm& norm, size_t rows, Workspace& work) const {
    const size_t D = shape_.width, W = round_up(D, 64);
    for (size_t r = 0; r < rows; ++r) {
      kernels_->normalize(&work.states[r * W], norm.gain.data(), norm.bias.data(), D, epsilon_,
                          &work.normed[r * W]);
    }
  }

  // y = x W + bias, or y += that
  void multiply(const Matrix& matrix, const Buffer<float>& x, size_t x_stride, size_t rows,
                Workspace& work, bool adds, Buffer<float>& y) const {
    if (matrix.type == TensorType::q8_0) {
      kernels_->round_rows(x.data(), x_stride, rows, matrix.inputs, work.levels);
    }
    work.threads->run(matrix.outputs / 64, [&](size_t panel) {
      kernels_->multiply(matrix, panel, x.data(), x_stride, rows, work.levels, adds, y.data());
    });
  }

  void activate(size_t size, Workspace& work) const {
    float* const x = work.hidden.data();
    if (!has_exact_gelu_) return kernels_->gelu(x, size);
    for (size_t i = 0; i < size; ++i) x[i] = 0.5f * x[i] * (1.0f + std::erf(x[i] * 0.707106781f));
  }

  // The scores of a head, and after them what it returns.
  size_t scores_size() const { return shape_.padded_positions() + shape_.padded_head_width(); }

  void attend(size_t layer, const std::vector<Row>& rows, Workspace& work) const {
    const size_t D = shape_.width, K = shape_.head_width();
    const size_t wide = round_up(3 * D, 64), W = round_up(D, 64);
    work.threads->run(shape_.heads, [&](size_t h) {
      float* const scores = &work.scores[h * scores_size()];
      float* const out = scores + shape_.padded_positions();
      for (size_t r = 0; r < rows.size(); ++r) {
        const HeadCache head = rows[r].cache->head(layer, h);
        const float* const q = &work.qkv[r * wide + h * K];
        kernels_->attend(q, head, rows[r].position + 1, scores, out);
        std::memcpy(&work.mixed[r * W + h * K], out, K * sizeof *out);
      }
    });
  }

  // After the last keys and values, only the rows that need logits are computed.
  static void keep_needed(std::vector<Row>& rows, Workspace& work, size_t W, size_t wide) {
    size_t kept = 0;
    for (size_t r = 0; r < rows.size(); ++r) {
      if (!rows[r].needs_logits) continue;
      if (kept < r) {
        std::memcpy(&work.states[kept * W], &work.states[r * W], W * sizeof(float));
        std::memcpy(&work.qkv[kept * wide], &work.qkv[r * wide], wide * sizeof(float));
      }
      rows[kept++] = rows[r];
    }
    rows.resize(kept);
  }

  const Kernels* kernels_;
  Shape shape_{};
  float epsilon_ = 0;
  bool has_exact_gelu_ = false;
  Buffer<float> token_embedding_, position_embedding_;  // [V][D], [P][D]
  std::vector<Block> blocks_;
  Norm output_norm_;
  Matrix head_;
};

}  // namespace valyrian
