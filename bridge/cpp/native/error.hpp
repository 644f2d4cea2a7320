// The one exception type of this library, and the check of everything that comes from outside.

#pragma once

#include <cstdio>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>

namespace valyrian {

// What is wrong, what was expected, what was found and what to do, in one line.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

#ifdef __cpp_exceptions

[[noreturn]] inline void fail(const std::string& message) { throw Error(message); }

// Calls a function; its errors become an Error that begins with `context` and ends with `advice`.
template <typename Function>
auto explain(const std::string& context, const std::string& advice, Function function) {
  try {
    return function();
  } catch (const Error& error) {
    fail(context + ": " + error.what() + "; " + advice);
  } catch (const std::bad_alloc&) {
    fail(context + ": it needs more memory than there is; " + advice);
  }
}

#else

// Where errors go in a program that is compiled without exceptions. It must not return: end the
// program, or leave it, as a function of JavaScript that throws does.
inline void (*error_handler)(const char* message) = [](const char* message) {
  std::fprintf(stderr, "error: %s\n", message);
  std::exit(2);
};

[[noreturn]] inline void fail(const std::string& message) {
  error_handler(message.c_str());
  std::abort();
}

template <typename Function>
auto explain(const std::string&, const std::string&, Function function) {
  return function();
}

#endif

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
