// Parses the numbers of options, as `python -m bridge generate` does.

#pragma once

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <optional>
#include <regex>
#include <string>

struct NumberOption {
  const char* name;
  bool is_whole;
  double low, high;
  const char* expected;
};

constexpr double kLargest = std::numeric_limits<double>::max();
constexpr double kLargestInt = 2147483647;
constexpr NumberOption kMaxNewTokens{"--max-new-tokens", true, 1, kLargestInt,
                                     "a whole number from 1 to 2147483647"};
constexpr NumberOption kTemperature{"--temperature", false, 0, kLargest,
                                    "0 or a number from 0.001"};
constexpr NumberOption kTopK{"--top-k", true, 0, kLargestInt,
                             "a whole number from 0 to 2147483647"};
constexpr NumberOption kTopP{"--top-p", false, std::numeric_limits<double>::denorm_min(), kLargest,
                             "a number above 0"};
constexpr NumberOption kSeed{"--seed", true, 0, 4294967295,
                             "a whole number from 0 to 4294967295"};
constexpr NumberOption kMinP{"--min-p", false, 0, 1, "a number from 0 to 1"};
constexpr NumberOption kRepetitionPenalty{"--repetition-penalty", false, 0.001, 1000,
                                          "a number from 0.001 to 1000"};
constexpr NumberOption kMinNewTokens{"--min-new-tokens", true, 0, kLargestInt,
                                     "a whole number from 0 to 2147483647"};
constexpr NumberOption kNumSamples{"--num-samples", true, 1, kLargestInt,
                                   "a whole number from 1 to 2147483647"};

// Returns the number of a text, or nothing if it is not one or out of range. Python allows white
// space around a number, and an underscore between two digits.
inline std::optional<double> parse_number(const NumberOption& option, std::string text) {
  static const std::string space = "[ \\t-\\r\\x1c-\\x1f]*", digits = "[0-9]+(_[0-9]+)*";
  static const std::regex whole(space + "[+-]?" + digits + space);
  static const std::regex real(space + "[+-]?(" + digits + "(\\.(" + digits + ")?)?|\\." + digits +
                               ")([eE][+-]?" + digits + ")?" + space);
  if (text.size() > 4000) return std::nullopt;  // std::regex would exhaust the stack.
  if (!std::regex_match(text, option.is_whole ? whole : real)) return std::nullopt;
  text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
  text.erase(0, text.find_first_of("+-.0123456789"));  // strtod does not know all white space.
  const double value = std::strtod(text.c_str(), nullptr);
  const bool is_in_range = value >= option.low && value <= option.high;
  const bool is_too_cold = option.name == kTemperature.name && value > 0 && value < 0.001;
  return is_in_range && !is_too_cold ? std::optional(value) : std::nullopt;
}
