// How a text is drawn; the same names, ranges and meaning as in every other runtime.

#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "error.hpp"

namespace valyrian {

struct Settings {
  int64_t max_new_tokens = 100;
  double temperature = 0.8;        // 0 takes the most probable token
  int64_t top_k = 0;               // 0 keeps all tokens
  double top_p = 0.95;             // 1 keeps all tokens
  double min_p = 0;                // drop tokens below this share of the largest probability
  double repetition_penalty = 1;   // 1 is off
  int64_t min_new_tokens = 0;      // no end of the document before
  std::vector<std::string> stop;   // end the text before the first of these
  int64_t seed = 0;                // 0 to 2^32 - 1
};

constexpr double kLargestInt = 2147483647;
constexpr double kLargest = std::numeric_limits<double>::max();
constexpr double kSmallest = std::numeric_limits<double>::denorm_min();

inline void check_setting(const char* name, double value, double low, double high,
                          const char* expected) {
  if (!(value >= low && value <= high)) {
    fail(std::string(name) + " is out of range: expected " + expected + ", found " +
         std::to_string(value) + "; pass another one");
  }
}

inline void check_settings(const Settings& s) {
  const auto real = [](int64_t whole) { return static_cast<double>(whole); };
  check_setting("max_new_tokens", real(s.max_new_tokens), 1, kLargestInt, "1 to 2147483647");
  check_setting("temperature", s.temperature, s.temperature == 0 ? 0 : 0.001, kLargest,
                "0 or a number from 0.001");
  check_setting("top_k", real(s.top_k), 0, kLargestInt, "0 to 2147483647");
  check_setting("top_p", s.top_p, kSmallest, kLargest, "a number above 0");
  check_setting("min_p", s.min_p, 0, 1, "0 to 1");
  check_setting("repetition_penalty", s.repetition_penalty, 0.001, 1000, "0.001 to 1000");
  check_setting("min_new_tokens", real(s.min_new_tokens), 0, kLargestInt, "0 to 2147483647");
  check_setting("seed", real(s.seed), 0, 4294967295, "0 to 4294967295");
  for (const auto& text : s.stop) check(!text.empty(), "a stop string is empty; leave it out");
}

}  // namespace valyrian
