// How a text is drawn; the same names, ranges and meaning as in every other runtime.

#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
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

// A setting that is a number: a whole one or a real one, and the values that it may have.
struct Number {
  std::string_view name;
  int64_t Settings::*whole;
  double Settings::*real;
  double low, high;
  const char* expected;

  double get(const Settings& settings) const {
    return whole ? static_cast<double>(settings.*whole) : settings.*real;
  }
  void set(Settings& settings, double value) const {
    if (whole) {
      settings.*whole = static_cast<int64_t>(value);
    } else {
      settings.*real = value;
    }
  }
  bool allows(double value) const {
    const bool is_too_cold = name == "temperature" && value > 0 && value < 0.001;
    return value >= low && value <= high && !is_too_cold;
  }
};

constexpr double kLargestInt = 2147483647;
constexpr const char* kFromZero = "a whole number from 0 to 2147483647";
constexpr Number kNumbers[] = {
    {"max_new_tokens", &Settings::max_new_tokens, nullptr, 1, kLargestInt,
     "a whole number from 1 to 2147483647"},
    {"temperature", nullptr, &Settings::temperature, 0, std::numeric_limits<double>::max(),
     "0 or a number from 0.001"},
    {"top_k", &Settings::top_k, nullptr, 0, kLargestInt, kFromZero},
    {"top_p", nullptr, &Settings::top_p, std::numeric_limits<double>::denorm_min(),
     std::numeric_limits<double>::max(), "a number above 0"},
    {"min_p", nullptr, &Settings::min_p, 0, 1, "a number from 0 to 1"},
    {"repetition_penalty", nullptr, &Settings::repetition_penalty, 0.001, 1000,
     "a number from 0.001 to 1000"},
    {"min_new_tokens", &Settings::min_new_tokens, nullptr, 0, kLargestInt, kFromZero},
    {"seed", &Settings::seed, nullptr, 0, 4294967295, "a whole number from 0 to 4294967295"},
};

inline void check_settings(const Settings& settings) {
  for (const Number& number : kNumbers) {
    const double value = number.get(settings);
    if (number.allows(value)) continue;
    fail(std::string(number.name) + " is out of range: expected " + number.expected + ", found " +
         std::to_string(value) + "; pass another one");
  }
  for (const auto& text : settings.stop) {
    check(!text.empty(), "a stop string is empty; leave it out");
  }
}

}  // namespace valyrian
