// valyrian-generate: continues a prompt with a model file. The file holds the model, the tokenizer
// and the sampler; this program parses options, asks for one token at a time and prints each as it
// comes.

#include <ATen/Parallel.h>
#include <torch/csrc/jit/runtime/profiling_graph_executor_impl.h>
#include <torch/script.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "archive.h"
#include "native/options.hpp"
#include "native/text.hpp"

namespace {

using valyrian::Error;
using valyrian::fail;
using valyrian::Options;
using valyrian::Settings;

const valyrian::Program kProgram{
    "valyrian-generate", "MODEL.pt", "`python -m bridge export`", {}, ""};
const char* kNotFinite =
    "the logits are not finite: expected finite numbers, found NaN or infinity, because the "
    "weights overflow float32; use other weights, or train again with a lower --optim.lr";
const char* kExpectedModel = "expected a file that `python -m bridge export` wrote";

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// Returns the line of an error that says what is wrong; the others trace where it happened.
std::string summarize(const std::exception& error) {
  std::string text = error.what();
  text.erase(text.find_last_not_of('\n') + 1);
  const bool is_from_script = text.rfind("The following operation failed in the Torch", 0) == 0;
  return is_from_script ? text.substr(text.rfind('\n') + 1) : first_line(text);
}

// Returns whether a setting is on that files of version 0.1 lack.
bool has_new(const Settings& settings) {
  return settings.min_p != 0 || settings.repetition_penalty != 1 || settings.min_new_tokens != 0 ||
         !settings.stop.empty();
}

Settings resolve_settings(const Options& options, torch::jit::Module& module) {
  const auto defaults = module.get_method("defaults")({}).toTuple()->elements();
  Settings settings;
  settings.max_new_tokens = defaults[0].toInt();
  settings.temperature = defaults[1].toDouble();
  settings.top_k = defaults[2].toInt();
  settings.top_p = defaults[3].toDouble();
  settings.seed = defaults[4].toInt();
  const bool is_new = defaults.size() > 5;  // Files of version 0.1 have five settings.
  if (is_new) {
    settings.min_p = defaults[5].toDouble();
    settings.repetition_penalty = defaults[6].toDouble();
    settings.min_new_tokens = defaults[7].toInt();
    for (const c10::IValue& stop : defaults[8].toListRef()) {
      settings.stop.push_back(stop.toStringRef());
    }
  }
  settings = options.resolve(settings);
  if (!is_new && has_new(settings)) {
    fail(options.model +
         " does not know --min-p, --repetition-penalty, --min-new-tokens and --stop: expected a "
         "file of this version, found an older one; export the bundle again");
  }
  return settings;
}

torch::jit::Module load(const std::string& path) {
  std::error_code error;  // Opening a FIFO could wait forever.
  if (!std::filesystem::is_regular_file(path, error) || !std::ifstream(path)) {
    fail("cannot read " + path + "; " + kExpectedModel);
  }
  try {
    archive::verify(path);
  } catch (const std::exception& damage) {
    fail(path + " is damaged or not a TorchScript file: " + summarize(damage) +
                    "; " + kExpectedModel);
  }
  torch::jit::ExtraFilesMap extra_files{{"config.json", ""}};
  torch::jit::Module module;
  try {
    module = torch::jit::load(path, torch::kCPU, extra_files);
  } catch (const std::exception&) {
    fail(path + " is damaged or not a TorchScript file; " + kExpectedModel);
  }
  const bool has_methods = module.find_method("generate_text") && module.find_method("defaults");
  if (extra_files["config.json"].empty() || !has_methods) {
    fail(path + " is a TorchScript file without text generation; " + kExpectedModel);
  }
  return module;
}

// Calls `emit` with every new token until it returns false.
template <typename Emit>
void generate(torch::jit::Module& module, const std::vector<int64_t>& prompt,
              const Settings& settings, Emit emit) {
  auto step = module.get_method("step"), sample = module.get_method("sample");
  auto tokens = prompt;
  auto cache = module.get_method("new_cache")({1});
  for (int64_t i = 0; i < settings.max_new_tokens; ++i) {
    const auto count = static_cast<int64_t>(tokens.size());
    const auto read = torch::from_blob(tokens.data(), {1, count}, torch::kInt64);
    const auto result = step({read, cache}).toTuple();
    const auto logits = result->elements()[0];
    cache = result->elements()[1];
    // Files of version 0.1 do not check this themselves.
    if (!std::isfinite(logits.toTensor().max().item<float>())) fail(kNotFinite);
    std::vector<c10::IValue> arguments{logits,         i, settings.temperature, settings.top_k,
                                       settings.top_p, settings.seed};
    if (has_new(settings)) {
      const auto window = read.slice(1, cache.toTuple()->elements()[1].toInt());
      arguments.insert(arguments.end(), {settings.min_p, settings.repetition_penalty,
                                         settings.min_new_tokens, window});
    }
    const auto token = sample(arguments).toTensor().item<int64_t>();
    tokens.push_back(token);
    if (!emit(token)) return;
  }
}

bool ends_with(const std::string& text, const std::string& suffix) {
  return text.size() >= suffix.size() &&
         text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0;
}

// Prints a text that arrives token by token, in whole characters, and holds back what could still
// become a stop string.
class TextPrinter {
 public:
  TextPrinter(torch::jit::Module& module, const std::vector<std::string>& stops)
      : module_(module), stops_(stops) {}

  // Adds a token; returns whether the text continues.
  bool add(int64_t token) {
    pending_.push_back(token);
    if (stops_.empty()) return print(0);
    bytes_ += raw_bytes(token);
    const auto start = valyrian::find_stop(bytes_, stops_);
    has_stopped_ = start != std::string::npos;
    if (has_stopped_) {
      finish(bytes_.size() - start);
      return false;
    }
    return print(valyrian::count_held(bytes_, stops_));
  }

  // Prints what is pending, without its last `cut` bytes.
  void finish(size_t cut) { std::cout << decode(cut).substr(printed_) << std::flush; }

  bool has_stopped() const { return has_stopped_; }

 private:
  bool print(size_t held) {
    const auto text = decode(held);
    if (!ends_with(text, "\xEF\xBF\xBD")) {  // U+FFFD: the text ends inside a character.
      std::cout << text.substr(printed_) << std::flush;
      printed_ = text.size();
      if (held == 0) {
        pending_.clear();
        bytes_.clear();
        printed_ = 0;
      }
    }
    return static_cast<bool>(std::cout);
  }

  std::string decode(size_t cut) {
    if (cut == 0) return module_.get_method("decode")({pending_}).toStringRef();
    return module_.get_method("decode_cut")({pending_, static_cast<int64_t>(cut)}).toStringRef();
  }

  std::string raw_bytes(int64_t token) {
    const auto bytes = module_.get_method("split_bytes")({torch::tensor({token})});
    return bytes.toListRef()[0].toStringRef();
  }

  torch::jit::Module& module_;
  const std::vector<std::string>& stops_;
  std::vector<int64_t> pending_;  // tokens whose text is not all printed
  std::string bytes_;             // the bytes of those tokens, if there are stop strings
  size_t printed_ = 0;            // bytes of the text of those tokens that are printed
  bool has_stopped_ = false;
};

void continue_prompt(torch::jit::Module& module, const std::string& prompt,
                     const Settings& settings, bool print_ids) {
  const auto end_of_text = module.attr("end_of_text").toInt();
  // Python also replaces malformed UTF-8 first.
  const auto normalize = [&](const std::string& text) {
    const auto ids = module.get_method("encode")({text});
    return module.get_method("decode")({ids}).toStringRef();
  };
  const auto text = normalize(prompt);
  auto start = module.get_method("encode")({text}).toIntVector();
  if (!print_ids) std::cout << text << std::flush;
  if (start.empty()) start.push_back(end_of_text);

  std::vector<std::string> stops;
  for (const auto& stop : settings.stop) stops.push_back(normalize(stop));
  TextPrinter printer(module, stops);
  generate(module, start, settings, [&](int64_t token) {
    if (print_ids) {
      std::cout << token << ' ';
      return true;
    }
    return token != end_of_text && printer.add(token);
  });
  if (!printer.has_stopped()) printer.finish(0);
  std::cout << std::endl;
}

void run(const std::vector<std::string>& arguments) {
  const Options options(arguments, kProgram);
  if (!options.answer.empty()) {
    std::cout << options.answer;
    return;
  }
  at::set_num_threads(1);                  // A second thread costs more than it gains at batch 1.
  torch::jit::getProfilingMode() = false;  // Profiling slows the first two calls of every method.
  c10::InferenceMode inference;
  auto module = load(options.model);
  const auto settings = resolve_settings(options, module);
  const auto print_samples = [&](const std::string& prompt) {
    for (int64_t i = 0; i < options.num_samples; ++i) {
      auto sample_settings = settings;
      sample_settings.seed = (settings.seed + i) % 4294967296;
      if (options.num_samples > 1 && !options.print_ids) {
        std::cout << "[seed " << sample_settings.seed << "] ";
      }
      continue_prompt(module, prompt, sample_settings, options.print_ids);
    }
  };
  if (options.prompts.empty()) return print_samples(options.prompt);
  std::ifstream file(options.prompts);
  const bool is_standard_input = options.prompts == "-";
  std::istream& prompts = is_standard_input ? std::cin : static_cast<std::istream&>(file);
  const Error unreadable("cannot read " + options.prompts +
                             "; expected a text file with one prompt on each line");
  if (!prompts) throw unreadable;
  for (std::string line; std::getline(prompts, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    print_samples(line);
  }
  if (prompts.bad()) throw unreadable;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run({argv + 1, argv + argc});
    if (!std::cout.flush()) fail("cannot write to standard output");
    return 0;
  } catch (const Error& error) {
    std::cerr << "error: " << error.what() << '\n';
  } catch (const std::exception& error) {
    std::cerr << "error: the model failed: " << summarize(error)
              << "; check the file with `python -m bridge check`\n";
  }
  return 2;
}
