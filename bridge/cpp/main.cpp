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
#include "numbers.h"
#include "stop.h"

namespace {

const char* kVersion = "valyrian-gpt 0.2.0\n";  // valyrian_jax.__version__
const char* kUsage =
    "usage: valyrian-generate MODEL.pt [options]\n"
    "\n"
    "Continues a prompt up to the end of the document, with a file that `python -m bridge export`\n"
    "wrote.\n"
    "\n"
    "  --prompt TEXT         text to continue [default: start a new document]\n"
    "  --prompts FILE        continue every line of a file; - reads standard input\n"
    "  --max-new-tokens N    largest number of new tokens\n"
    "  --temperature T       0 takes the most probable token; otherwise at least 0.001\n"
    "  --top-k K             sample from the K most probable tokens; 0 keeps all\n"
    "  --top-p P             sample from the most probable tokens that together reach P;\n"
    "                        1 keeps all\n"
    "  --min-p P             drop tokens below P times the largest probability; 0 keeps all\n"
    "  --repetition-penalty R  lower the tokens of the window; 1 is off\n"
    "  --min-new-tokens N    no end of the document before N new tokens\n"
    "  --stop TEXT           end the text before TEXT; may be given again\n"
    "  --seed S              0 to 4294967295; the same seed gives the same text\n"
    "  --num-samples N       texts per prompt; each uses the next seed [default: 1]\n"
    "  --ids                 print token ids, and continue after the end of the document\n"
    "  --version             print the version\n"
    "  --help                print this text\n"
    "\n"
    "Options that you leave out keep the settings in the file.\n"
    "Example: valyrian-generate valyrian.pt --prompt \"Valar morghūlis\" --seed 9\n";

const char* kNotFinite =
    "the logits are not finite: expected finite numbers, found NaN or infinity, because the "
    "weights overflow float32; use other weights, or train again with a lower --optim.lr";
const char* kExpectedModel = "expected a file that `python -m bridge export` wrote";

// An error of the user: one line on standard error, exit status 2.
struct UserError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// Returns the line of an error that says what is wrong; the others trace where it happened.
std::string summarize(const std::exception& error) {
  std::string text = error.what();
  text.erase(text.find_last_not_of('\n') + 1);
  const bool is_from_script = text.rfind("The following operation failed in the Torch", 0) == 0;
  return is_from_script ? text.substr(text.rfind('\n') + 1) : first_line(text);
}

struct Settings {
  int64_t max_new_tokens;
  double temperature;
  int64_t top_k;
  double top_p;
  int64_t seed;
  double min_p = 0;
  double repetition_penalty = 1;
  int64_t min_new_tokens = 0;
  std::vector<std::string> stops;

  // Whether a setting is on that files of version 0.1 do not have.
  bool has_new() const {
    return min_p != 0 || repetition_penalty != 1 || min_new_tokens != 0 || !stops.empty();
  }
};

constexpr NumberOption kNumbers[] = {kMaxNewTokens, kTemperature,  kTopK,
                                     kTopP,         kSeed,         kMinP,
                                     kNumSamples,   kMinNewTokens, kRepetitionPenalty};

struct Options {
  std::string model;
  bool print_ids = false;
  std::map<std::string, std::string> values;  // by option; the last of a repeated option
  std::vector<std::string> stops;             // every --stop

  std::string text(const std::string& name) const {
    const auto found = values.find(name);
    return found == values.end() ? "" : found->second;
  }

  // The number of an option, or `otherwise` if it is left out.
  double number(const NumberOption& option, double otherwise) const {
    const auto found = values.find(option.name);
    if (found == values.end()) return otherwise;
    if (const auto value = parse_number(option, found->second)) return *value;
    throw UserError(std::string(option.name) + " is '" + found->second + "', expected " +
                    option.expected + "; see --help");
  }
};

bool takes_value(const std::string& name) {
  const auto has_name = [&](const NumberOption& option) { return name == option.name; };
  return name == "--prompt" || name == "--prompts" || name == "--stop" ||
         std::any_of(std::begin(kNumbers), std::end(kNumbers), has_name);
}

Options parse_options(const std::vector<std::string>& arguments) {
  Options options;
  std::vector<std::string> files;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto& argument = arguments[i];
    if (argument.size() < 2 || argument[0] != '-') {
      files.push_back(argument);
    } else if (argument == "--") {
      files.insert(files.end(), arguments.begin() + i + 1, arguments.end());
      break;
    } else if (argument == "--help" || argument == "-h" || argument == "--version") {
      std::cout << (argument == "--version" ? kVersion : kUsage) << std::flush;
      std::exit(std::cout ? 0 : 2);
    } else if (argument == "--ids") {
      options.print_ids = true;
    } else {
      const auto equals = argument.find('=');
      const auto name = argument.substr(0, equals);
      if (!takes_value(name)) throw UserError("unknown option " + argument + "; see --help");
      if (equals == std::string::npos && ++i == arguments.size()) {
        throw UserError(name + " needs a value; see --help");
      }
      const auto value = equals == std::string::npos ? arguments[i] : argument.substr(equals + 1);
      if (name == "--stop") {
        options.stops.push_back(value);
      } else {
        options.values[name] = value;
      }
    }
  }
  if (files.empty()) throw UserError("no model file; expected MODEL.pt; see --help");
  if (files.size() > 1) {
    throw UserError("more than one model file: " + files[1] + "; see --help");
  }
  if (!options.text("--prompt").empty() && !options.text("--prompts").empty()) {
    throw UserError("--prompt and --prompts cannot be combined; leave one out");
  }
  if (options.print_ids && !options.stops.empty()) {
    throw UserError("--ids and --stop cannot be combined; leave one out");
  }
  for (const auto& stop : options.stops) {
    if (stop.empty()) throw UserError("--stop is '', expected at least one character; see --help");
  }
  options.model = files[0];
  for (const auto& option : kNumbers) options.number(option, 0);  // Report a wrong one at once.
  return options;
}

Settings resolve_settings(const Options& options, torch::jit::Module& module) {
  const auto defaults = module.get_method("defaults")({}).toTuple()->elements();
  Settings settings;
  settings.max_new_tokens = options.number(kMaxNewTokens, defaults[0].toInt());
  settings.temperature = options.number(kTemperature, defaults[1].toDouble());
  settings.top_k = options.number(kTopK, defaults[2].toInt());
  settings.top_p = options.number(kTopP, defaults[3].toDouble());
  settings.seed = options.number(kSeed, defaults[4].toInt());
  const bool is_new = defaults.size() > 5;  // Files of version 0.1 have five settings.
  settings.min_p = options.number(kMinP, is_new ? defaults[5].toDouble() : 0);
  settings.repetition_penalty =
      options.number(kRepetitionPenalty, is_new ? defaults[6].toDouble() : 1);
  settings.min_new_tokens = options.number(kMinNewTokens, is_new ? defaults[7].toInt() : 0);
  settings.stops = options.stops;
  if (is_new && settings.stops.empty()) {
    for (const c10::IValue& stop : defaults[8].toListRef()) {
      settings.stops.push_back(stop.toStringRef());
    }
  }
  if (!is_new && settings.has_new()) {
    throw UserError(options.model + " does not know --min-p, --repetition-penalty, "
                    "--min-new-tokens and --stop: expected a file of this version, found an older "
                    "one; export the bundle again");
  }
  return settings;
}

torch::jit::Module load(const std::string& path) {
  std::error_code error;  // Opening a FIFO could wait forever.
  if (!std::filesystem::is_regular_file(path, error) || !std::ifstream(path)) {
    throw UserError("cannot read " + path + "; " + kExpectedModel);
  }
  try {
    archive::verify(path);
  } catch (const std::exception& damage) {
    throw UserError(path + " is damaged or not a TorchScript file: " + summarize(damage) +
                    "; " + kExpectedModel);
  }
  torch::jit::ExtraFilesMap extra_files{{"config.json", ""}};
  torch::jit::Module module;
  try {
    module = torch::jit::load(path, torch::kCPU, extra_files);
  } catch (const std::exception&) {
    throw UserError(path + " is damaged or not a TorchScript file; " + kExpectedModel);
  }
  const bool has_methods = module.find_method("generate_text") && module.find_method("defaults");
  if (extra_files["config.json"].empty() || !has_methods) {
    throw UserError(path + " is a TorchScript file without text generation; " + kExpectedModel);
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
    if (!std::isfinite(logits.toTensor().max().item<float>())) throw UserError(kNotFinite);
    std::vector<c10::IValue> arguments{logits,         i, settings.temperature, settings.top_k,
                                       settings.top_p, settings.seed};
    if (settings.has_new()) {
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

// Text that arrives token by token: prints whole characters, and holds back what could still become
// a stop string.
class TextPrinter {
 public:
  TextPrinter(torch::jit::Module& module, const std::vector<std::string>& stops)
      : module_(module), stops_(stops) {}

  // Adds a token; returns whether the text goes on.
  bool add(int64_t token) {
    pending_.push_back(token);
    if (stops_.empty()) return print(0);
    bytes_ += raw_bytes(token);
    const auto start = find_stop(bytes_, stops_);
    has_stopped_ = start != std::string::npos;
    if (has_stopped_) {
      finish(bytes_.size() - start);
      return false;
    }
    return print(count_held(bytes_, stops_));
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
  for (const auto& stop : settings.stops) stops.push_back(normalize(stop));
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
  const auto options = parse_options(arguments);
  at::set_num_threads(1);                  // A second thread costs more than it gains at batch 1.
  torch::jit::getProfilingMode() = false;  // Profiling slows the first two calls of every method.
  c10::InferenceMode inference;
  auto module = load(options.model);
  const auto settings = resolve_settings(options, module);
  const auto num_samples = static_cast<int64_t>(options.number(kNumSamples, 1));
  const auto print_samples = [&](const std::string& prompt) {
    for (int64_t i = 0; i < num_samples; ++i) {
      auto sample_settings = settings;
      sample_settings.seed = (settings.seed + i) % 4294967296;
      if (num_samples > 1 && !options.print_ids) {
        std::cout << "[seed " << sample_settings.seed << "] ";
      }
      continue_prompt(module, prompt, sample_settings, options.print_ids);
    }
  };
  const auto prompts_file = options.text("--prompts");
  if (prompts_file.empty()) return print_samples(options.text("--prompt"));
  std::ifstream file(prompts_file);
  const bool is_standard_input = prompts_file == "-";
  std::istream& prompts = is_standard_input ? std::cin : static_cast<std::istream&>(file);
  const UserError unreadable("cannot read " + prompts_file +
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
    if (!std::cout.flush()) throw UserError("cannot write to standard output");
    return 0;
  } catch (const UserError& error) {
    std::cerr << "error: " << error.what() << '\n';
  } catch (const std::exception& error) {
    std::cerr << "error: the model failed: " << summarize(error)
              << "; check the file with `python -m bridge check`\n";
  }
  return 2;
}
