// The tokenizer: byte-level BPE (Sennrich et al. 2016) with GPT-2's pre-tokenizer. Any bytes can be
// encoded, and decoding the ids gives the same bytes.

#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <iterator>
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "error.hpp"
#include "gguf.hpp"
#include "unicode_classes.hpp"
#include "utf8.hpp"

namespace valyrian {

inline CharacterClass class_of(int32_t code) {
  if (code < 0) return CharacterClass::other;  // malformed
  const uint32_t last = 4 * static_cast<uint32_t>(code) + 3;
  const uint32_t run = *(std::upper_bound(std::begin(kClassRuns), std::end(kClassRuns), last) - 1);
  return static_cast<CharacterClass>(run % 4);
}

// Returns the end of the piece that begins at `begin`. The pieces are those of GPT-2's pattern
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// without a regular-expression engine.
inline size_t find_piece_end(std::string_view text, size_t begin) {
  const auto starts_with = [&](std::string_view end) {
    return text.compare(begin + 1, end.size(), end) == 0;
  };
  if (text[begin] == '\'') {
    for (const char* end : {"s", "t", "re", "ve", "m", "ll", "d"}) {
      if (starts_with(end)) return begin + 1 + std::string_view(end).size();
    }
  }
  Character character = read_character(text, begin);
  CharacterClass piece_class = class_of(character.code);
  size_t at = begin + character.size, last = begin;
  if (text[begin] == ' ' && at < text.size()) {  // A space joins what follows, except other spaces.
    character = read_character(text, at);
    piece_class = class_of(character.code);
    if (piece_class != CharacterClass::space) at += character.size;
  }
  while (at < text.size()) {
    character = read_character(text, at);
    if (class_of(character.code) != piece_class) break;
    last = at;
    at += character.size;
  }
  // The last of several spaces before something else begins the next piece.
  const bool leaves_one = piece_class == CharacterClass::space && at < text.size() && last > begin;
  return leaves_one ? last : at;
}

class Tokenizer {
 public:
  explicit Tokenizer(const Gguf& file) {
    check(file.text("tokenizer.ggml.model") == "gpt2", "its tokenizer is not GPT-2's");
    if (file.has("tokenizer.ggml.pre")) {
      const std::string_view pre = file.text("tokenizer.ggml.pre");
      check(pre == "gpt-2" || pre == "default", "its pre-tokenizer is not GPT-2's");
    }
    const auto spellings = file.texts("tokenizer.ggml.tokens");
    const auto types = file.wholes("tokenizer.ggml.token_type");
    check(!spellings.empty() && spellings.size() == types.size() && spellings.size() < 1u << 24,
          "its tokens and their types differ in number");
    std::unordered_map<std::string, int32_t> ids;  // by bytes; without special tokens
    for (size_t i = 0; i < spellings.size(); ++i) {
      const bool is_normal = types[i] == 1;
      tokens_.push_back(is_normal ? read_spelling(spellings[i]) : std::string(spellings[i]));
      if (is_normal && !ids.emplace(tokens_[i], static_cast<int32_t>(i)).second) {
        fail("its token " + quote(spellings[i]) + " occurs twice");
      }
    }
    const auto find = [&](const std::string& bytes) {
      const auto found = ids.find(bytes);
      check(found != ids.end(), "it lacks a token that a byte or a merge needs");
      return found->second;
    };
    for (size_t byte = 0; byte < 256; ++byte) {
      byte_ids_[byte] = find(std::string(1, static_cast<char>(byte)));
    }
    const auto pairs = file.texts("tokenizer.ggml.merges");
    for (size_t rank = 0; rank < pairs.size(); ++rank) {
      const size_t space = pairs[rank].find(' ');
      check(space != std::string_view::npos, "one of its merges is not a pair");
      const std::string left = read_spelling(pairs[rank].substr(0, space));
      const std::string right = read_spelling(pairs[rank].substr(space + 1));
      const Merge merge{static_cast<int32_t>(rank), find(left + right)};
      if (!merges_.emplace(key(find(left), find(right)), merge).second) {
        fail("its merge " + quote(pairs[rank]) + " occurs twice");
      }
    }
    end_of_text_ = static_cast<int32_t>(
        file.whole("tokenizer.ggml.eos_token_id", 0, tokens_.size() - 1));
  }

  size_t size() const { return tokens_.size(); }
  int32_t end_of_text() const { return end_of_text_; }
  const std::string& bytes(int32_t id) const {
    if (id < 0 || static_cast<size_t>(id) >= size()) {
      fail("token id " + std::to_string(id) + " is outside the vocabulary: expected 0 to " +
           std::to_string(size() - 1) + "; pass ids of this tokenizer");
    }
    return tokens_[static_cast<size_t>(id)];
  }

  std::vector<int32_t> encode(std::string_view text) const {
    std::vector<int32_t> ids;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = find_piece_end(text, begin);
      merge(text.substr(begin, end - begin), ids);
      begin = end;
    }
    return ids;
  }

  // Returns the bytes of the tokens; `replace_malformed` makes them a text.
  std::string decode(const std::vector<int32_t>& ids) const {
    std::string text;
    for (const int32_t id : ids) text += bytes(id);
    return text;
  }

 private:
  struct Merge {
    int32_t rank, id;
  };

  static uint64_t key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  }

  // A file spells each byte as a visible character: those of Latin-1 as themselves, the others as
  // U+0100 and on, in order.
  static std::string read_spelling(std::string_view spelling) {
    static const auto byte_of = [] {
      std::array<int16_t, 0x144> table;
      table.fill(-1);
      size_t next = 0x100;
      for (size_t b = 0; b < 256; ++b) {
        const bool is_visible = (b > 0x20 && b < 0x7F) || (b > 0xA0 && b != 0xAD);
        table[is_visible ? b : next++] = static_cast<int16_t>(b);
      }
      return table;
    }();
    std::string bytes;
    for (size_t at = 0; at < spelling.size();) {
      const Character character = read_character(spelling, at);
      const auto code = static_cast<size_t>(character.code);
      if (character.code < 0 || code >= byte_of.size() || byte_of[code] < 0) {
        fail("its token " + quote(spelling) + " does not spell bytes");
      }
      bytes += static_cast<char>(byte_of[code]);
      at += character.size;
    }
    check(!bytes.empty(), "one of its tokens is empty");
    return bytes;
  }

  // Appends the ids of one piece: always merges the pair learnt first, the leftmost if it occurs
  // twice. The tokens are a linked list and the pairs a heap, so the time is O(n log n).
  void merge(std::string_view piece, std::vector<int32_t>& ids) const {
    struct Link {
      int32_t id;  // -1 once it is part of the token before it
      size_t previous, next;
    };
    using Candidate = std::pair<int32_t, size_t>;  // rank, index of the left token
    const size_t none = piece.size();
    std::vector<Link> links;
    for (size_t i = 0; i < piece.size(); ++i) {
      links.push_back({byte_ids_[static_cast<uint8_t>(piece[i])], i > 0 ? i - 1 : none, i + 1});
    }
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<Candidate>> candidates;
    const auto find = [&](size_t left) -> const Merge* {
      if (left == none || links[left].id < 0 || links[left].next == none) return nullptr;
      const auto found = merges_.find(key(links[left].id, links[links[left].next].id));
      return found == merges_.end() ? nullptr : &found->second;
    };
    const auto add = [&](size_t left) {
      if (const Merge* merge = find(left)) candidates.push({merge->rank, left});
    };
    for (size_t i = 0; i < piece.size(); ++i) add(i);
    while (!candidates.empty()) {
      const auto [rank, left] = candidates.top();
      candidates.pop();
      const Merge* const merge = find(left);
      if (!merge || merge->rank != rank) continue;  // another merge has replaced the pair
      const size_t right = links[left].next;
      links[left].id = merge->id;
      links[left].next = links[right].next;
      links[right].id = -1;
      if (links[right].next != none) links[links[right].next].previous = left;
      add(left);
      add(links[left].previous);
    }
    for (size_t i = 0; i < none; i = links[i].next) ids.push_back(links[i].id);
  }

  std::vector<std::string> tokens_;
  std::array<int32_t, 256> byte_ids_{};
  std::unordered_map<uint64_t, Merge> merges_;
  int32_t end_of_text_ = 0;
};

}  // namespace valyrian
