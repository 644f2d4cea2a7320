// The options of valyrian-run; numbers are read as `python -m bridge generate` reads them.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "error.hpp"
#include "settings.hpp"

namespace valyrian {

// Returns the number that a text spells, or nothing. Python allows white space around a number, and
// an underscore between two digits.
inline std::optional<double> parse_number(const std::string& text, bool is_whole) {
  constexpr const char* kSpace = " \t\n\v\f\r\x1c\x1d\x1e\x1f";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string::npos) return std::nullopt;
  const std::string number = text.substr(first, text.find_last_not_of(kSpace) + 1 - first);
  std::string plain;  // without underscores
  size_t at = 0;
  const auto is_digit = [&](size_t i) {
    return i < number.size() && number[i] >= '0' && number[i] <= '9';
  };
  const auto accept = [&](const char* characters) {
    const bool is_one =
        at < number.size() && std::string(characters).find(number[at]) != std::string::npos;
    if (is_one) plain += number[at++];
    return is_one;
  };
  const auto take_digits = [&] {
    const size_t begin = at;
    while (is_digit(at) || (at > begin && at < number.size() && number[at] == '_' &&
                            is_digit(at + 1))) {
      if (number[at] != '_') plain += number[at];
      ++at;
    }
    return at > begin;
  };
  accept("+-");
  bool has_digits = take_digits();
  if (!is_whole && accept(".")) has_digits = take_digits() || has_digits;
  if (has_digits && !is_whole && accept("eE")) {
    accept("+-");
    has_digits = take_digits();
  }
  if (!has_digits || at < number.size()) return std::nullopt;
  return std::strtod(plain.c_str(), nullptr);
}

struct Options {
  std::string model, prompt, prompts, instructions;
  std::vector<std::string> stop;
  int64_t num_samples = 1;
  bool print_ids = false, print_help = false, print_version = false;

  explicit Options(const std::vector<std::string>& arguments) {
    std::vector<std::string> files;
    for (size_t i = 0; i < arguments.size(); ++i) {
      const std::string& argument = arguments[i];
      if (argument == "--") {
        files.insert(files.end(), arguments.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                     arguments.end());
        break;
      }
      if (argument.size() < 2 || argument[0] != '-') {
        files.push_back(argument);
      } else if (argument == "--ids") {
        print_ids = true;
      } else if (argument == "--help" || argument == "-h") {
        print_help = true;
      } else if (argument == "--version") {
        print_version = true;
      } else {
        const size_t equals = argument.find('=');
        const std::string name = argument.substr(0, equals);
        if (!takes_value(name)) fail("unknown option " + argument + "; see --help");
        if (equals == std::string::npos && i + 1 == arguments.size()) {
          fail(name + " needs a value; see --help");
        }
        set(name, equals == std::string::npos ? arguments[++i] : argument.substr(equals + 1));
      }
    }
    if (print_help || print_version) return;
    check(!files.empty(), "no model file; expected MODEL.gguf; see --help");
    if (files.size() > 1) fail("more than one model file: " + files[1] + "; see --help");
    check(prompt.empty() || prompts.empty(),
          "--prompt and --prompts cannot be combined; leave one out");
    check(!print_ids || stop.empty(), "--ids and --stop cannot be combined; leave one out");
    model = files[0];
  }

  // Returns the settings of a file, with those that the user gave instead.
  Settings resolve(Settings settings) const {
    const auto replace_whole = [&](const char* name, int64_t& setting) {
      if (numbers_.count(name)) setting = static_cast<int64_t>(numbers_.at(name));
    };
    const auto replace_real = [&](const char* name, double& setting) {
      if (numbers_.count(name)) setting = numbers_.at(name);
    };
    replace_whole("--max-new-tokens", settings.max_new_tokens);
    replace_real("--temperature", settings.temperature);
    replace_whole("--top-k", settings.top_k);
    replace_real("--top-p", settings.top_p);
    replace_real("--min-p", settings.min_p);
    replace_real("--repetition-penalty", settings.repetition_penalty);
    replace_whole("--min-new-tokens", settings.min_new_tokens);
    replace_whole("--seed", settings.seed);
    if (!stop.empty()) settings.stop = stop;
    return settings;
  }

 private:
  struct Number {
    const char* name;
    bool is_whole;
    double low, high;
    const char* expected;
  };

  static const Number* find_number(const std::string& name) {
    static constexpr Number kNumbers[] = {
        {"--max-new-tokens", true, 1, kLargestInt, "a whole number from 1 to 2147483647"},
        {"--temperature", false, 0, kLargest, "0 or a number from 0.001"},
        {"--top-k", true, 0, kLargestInt, "a whole number from 0 to 2147483647"},
        {"--top-p", false, kSmallest, kLargest, "a number above 0"},
        {"--min-p", false, 0, 1, "a number from 0 to 1"},
        {"--repetition-penalty", false, 0.001, 1000, "a number from 0.001 to 1000"},
        {"--min-new-tokens", true, 0, kLargestInt, "a whole number from 0 to 2147483647"},
        {"--seed", true, 0, 4294967295, "a whole number from 0 to 4294967295"},
        {"--num-samples", true, 1, kLargestInt, "a whole number from 1 to 2147483647"},
    };
    for (const Number& number : kNumbers) {
      if (name == number.name) return &number;
    }
    return nullptr;
  }

  static bool takes_value(const std::string& name) {
    return name == "--prompt" || name == "--prompts" || name == "--stop" ||
           name == "--instructions" || find_number(name);
  }

  void set(const std::string& name, const std::string& value) {
    if (const Number* const number = find_number(name)) {
      const auto parsed = parse_number(value, number->is_whole);
      const bool is_right = parsed && *parsed >= number->low && *parsed <= number->high;
      const bool is_too_cold =
          name == "--temperature" && is_right && *parsed > 0 && *parsed < 0.001;
      if (!is_right || is_too_cold) {
        fail(name + " is '" + value + "', expected " + number->expected + "; see --help");
      }
      numbers_[name] = *parsed;
      if (name == "--num-samples") num_samples = static_cast<int64_t>(*parsed);
    } else if (name == "--stop") {
      check(!value.empty(), "--stop is '', expected at least one character; see --help");
      stop.push_back(value);
    } else {
      (name == "--prompt" ? prompt : name == "--prompts" ? prompts : instructions) = value;
    }
  }

  std::map<std::string, double> numbers_;  // by option; the last of a repeated one
};

}  // namespace valyrian
