// The one exception type of this library, and the check of everything that comes from outside.

#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace valyrian {

// What is wrong, what was expected, what was found and what to do, in one line.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] inline void fail(const std::string& message) { throw Error(message); }

inline void check(bool is_right, const char* message) {
  if (!is_right) fail(message);
}

// Returns a name from a file so that a message with it stays one short line of plain characters.
inline std::string quote(std::string_view name) {
  std::string text = "'";
  for (const char c : name.substr(0, 60)) text += c >= ' ' && c <= '~' ? c : '?';
  return text + (name.size() > 60 ? "...'" : "'");
}

}  // namespace valyrian
