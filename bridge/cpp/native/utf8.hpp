// UTF-8 as Python decodes it with errors="replace": U+FFFD in place of every maximal part of a
// character that is not complete (the Unicode Standard, chapter 3).

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace valyrian {

struct Character {
  int32_t code;     // -1 if it is malformed
  size_t size;      // in bytes
  bool is_cut_off;  // whether the text ends inside a character that more bytes could complete
};

// Returns the character at `at`, which is inside the text.
inline Character read_character(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[at + i]); };
  const int32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1, false};
  if (lead < 0xC2 || lead > 0xF4) return {-1, 1, false};
  const size_t expected = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  int32_t code = lead & (0x7F >> expected);
  for (size_t i = 1; i < expected; ++i) {
    if (at + i == text.size()) return {-1, i, true};
    // The second byte excludes overlong forms, surrogates and numbers above U+10FFFF.
    const int32_t low = i > 1 ? 0x80 : lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const int32_t high = i > 1 ? 0xBF : lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (byte(i) < low || byte(i) > high) return {-1, i, false};
    code = code << 6 | (byte(i) & 0x3F);
  }
  return {code, expected, false};
}

// Moves the whole characters at the beginning of `bytes` to the result, malformed ones replaced.
// At the end of a text, a character that is cut off is malformed too.
inline std::string take_characters(std::string& bytes, bool is_end) {
  std::string text;
  size_t at = 0;
  while (at < bytes.size()) {
    const Character character = read_character(bytes, at);
    if (character.is_cut_off && !is_end) break;
    if (character.code < 0) {
      text += "\xEF\xBF\xBD";  // U+FFFD
    } else {
      text.append(bytes, at, character.size);
    }
    at += character.size;
  }
  bytes.erase(0, at);
  return text;
}

inline std::string replace_malformed(std::string bytes) { return take_characters(bytes, true); }

}  // namespace valyrian
