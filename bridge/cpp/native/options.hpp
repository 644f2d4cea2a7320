// The options of valyrian-run and valyrian-generate; numbers are read as `python -m bridge generate`
// reads them.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "error.hpp"
#include "settings.hpp"
#include "threads.hpp"

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

constexpr const char* kVersion = "valyrian-gpt 0.2.0\n";  // valyrian_jax.__version__

// What differs between the programs.
struct Program {
  std::string name, file;                 // how to call it
  std::string source;                     // what writes its files
  std::vector<std::string> more_options;  // options that only it has
  std::string more_help;                  // their lines in the help
};

inline std::string describe(const Program& program) {
  const std::string call = program.name + " " + program.file;
  return "usage: " + call + " [options]\n\n" +
         "Continues a prompt up to the end of the document, with a file that\n" + program.source +
         " wrote.\n\n" +
         "  --prompt TEXT         text to continue [default: start a new document]\n"
         "  --prompts FILE        continue every line of a file; - reads standard input\n"
         "  --max-new-tokens N    largest number of new tokens\n"
         "  --temperature T       0 takes the most probable token; otherwise at least 0.001\n"
         "  --top-k K             sample from the K most probable tokens; 0 keeps all\n"
         "  --top-p P             sample from the most probable tokens that together reach P;\n"
         "                        1 keeps all\n"
         "  --min-p P             drop tokens below P times the largest probability; 0 keeps all\n"
         "  --repetition-penalty R  make tokens of the window less probable; 1 is off\n"
         "  --min-new-tokens N    do not end the document before N new tokens\n"
         "  --stop TEXT           end the text before TEXT; may be given again\n"
         "  --seed S              0 to 4294967295; the same seed gives the same text\n"
         "  --num-samples N       texts per prompt; each uses the next seed [default: 1]\n"
         "  --ids                 print token ids, and continue after the end of the document\n" +
         program.more_help +
         "  --version             print the version\n"
         "  --help                print this text\n\n"
         "Options that you leave out keep the settings in the file.\n"
         "Example: " + program.name + " valyrian" + program.file.substr(program.file.rfind('.')) +
         " --prompt \"Valar morghūlis\" --seed 9\n";
}

struct Options {
  std::string model, prompt, prompts, instructions;
  std::vector<std::string> stop;
  int64_t num_samples = 1, threads = 1;
  bool print_ids = false;
  std::string answer;  // to --help or --version: print it, and do nothing else

  Options(const std::vector<std::string>& arguments, const Program& program) {
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
      } else if (argument == "--help" || argument == "-h" || argument == "--version") {
        answer = argument == "--version" ? kVersion : describe(program);
        return;
      } else {
        const size_t equals = argument.find('=');
        const std::string name = argument.substr(0, equals);
        if (!takes_value(name, program)) fail("unknown option " + argument + "; see --help");
        if (equals == std::string::npos && i + 1 == arguments.size()) {
          fail(name + " needs a value; see --help");
        }
        set(name, equals == std::string::npos ? arguments[++i] : argument.substr(equals + 1));
      }
    }
    if (files.empty()) fail("no model file; expected " + program.file + "; see --help");
    if (files.size() > 1) fail("more than one model file: " + files[1] + "; see --help");
    check(prompt.empty() || prompts.empty(),
          "--prompt and --prompts cannot be combined; leave one out");
    check(!print_ids || stop.empty(), "--ids and --stop cannot be combined; leave one out");
    model = files[0];
  }

  // Returns the settings of a file, with those that the user gave instead.
  Settings resolve(Settings settings) const {
    for (const auto& [number, value] : numbers_) number->set(settings, value);
    if (!stop.empty()) settings.stop = stop;
    return settings;
  }

 private:
  // Returns the setting of an option, "--top-k" for "top_k", or nothing.
  static const Number* find_number(std::string name) {
    if (name.rfind("--", 0) != 0) return nullptr;
    name.erase(0, 2);
    std::replace(name.begin(), name.end(), '-', '_');
    for (const Number& number : kNumbers) {
      if (name == number.name) return &number;
    }
    return nullptr;
  }

  static bool takes_value(const std::string& name, const Program& program) {
    const auto& more = program.more_options;
    return name == "--prompt" || name == "--prompts" || name == "--stop" ||
           name == "--num-samples" || find_number(name) ||
           std::find(more.begin(), more.end(), name) != more.end();
  }

  static double parse(const std::string& name, const std::string& value, const Number& number) {
    const auto parsed = parse_number(value, number.whole);
    if (!parsed || !number.allows(*parsed)) {
      fail(name + " is '" + value + "', expected " + number.expected + "; see --help");
    }
    return *parsed;
  }

  static int64_t parse_count(const std::string& name, const std::string& value, double high,
                             const char* expected) {
    const Number number{"", &Settings::top_k, nullptr, 1, high, expected};
    return static_cast<int64_t>(parse(name, value, number));
  }

  void set(const std::string& name, const std::string& value) {
    if (const Number* const number = find_number(name)) {
      numbers_[number] = parse(name, value, *number);
    } else if (name == "--num-samples") {
      const char* const expected = "a whole number from 1 to 2147483647";
      num_samples = parse_count(name, value, kLargestInt, expected);
    } else if (name == "--threads") {
      threads = parse_count(name, value, kMostThreads, "a whole number from 1 to 64");
    } else if (name == "--stop") {
      check(!value.empty(), "--stop is '', expected at least one character; see --help");
      stop.push_back(value);
    } else {
      (name == "--prompt" ? prompt : name == "--prompts" ? prompts : instructions) = value;
    }
  }

  std::map<const Number*, double> numbers_;  // the last of a repeated option
};

}  // namespace valyrian
