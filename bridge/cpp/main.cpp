// valyrian-generate: continues a prompt with a model file. The file holds the model, the tokenizer
// and the sampler; this program parses options, asks for one token at a time and prints each as it
// comes.

#include <ATen/Parallel.h>
#include <getopt.h>
#include <torch/csrc/jit/runtime/profiling_graph_executor_impl.h>
#include <torch/script.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

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
    "  --seed S              0 to 4294967295; the same seed gives the same text\n"
    "  --num-samples N       texts per prompt; each uses the next seed [default: 1]\n"
    "  --ids                 print token ids, and continue after the end of the document\n"
    "  --help                print this text\n"
    "\n"
    "Options that you leave out keep the settings in the file.\n"
    "Example: valyrian-generate valyrian.pt --prompt \"valar morghulis\" --seed 7\n";

const char* kExpectedModel = "expected a file that `python -m bridge export` wrote";

// An error of the user: one line on standard error, exit status 2.
struct UserError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Settings {
  int64_t max_new_tokens;
  double temperature;
  int64_t top_k;
  double top_p;
  int64_t seed;
};

// Options with a number; the value is also the index in kNames.
enum NumberOption { kMaxNewTokens, kTemperature, kTopK, kTopP, kSeed, kNumSamples };
constexpr const char* kNames[] = {"max-new-tokens", "temperature", "top-k",
                                  "top-p",          "seed",        "num-samples"};

struct Options {
  std::string model, prompt, prompts_file;
  bool print_ids = false;
  int64_t num_samples = 1;
  std::vector<std::pair<int, std::string>> overrides;  // of settings, in command-line order
};

double parse_number(int option, const std::string& text, double low, double high, bool is_whole) {
  size_t end = 0;
  double value = NAN;
  try {
    value = std::stod(text, &end);
  } catch (const std::logic_error&) {
  }
  const bool is_in_range = value >= low && value <= high;
  if (end != text.size() || !is_in_range || (is_whole && value != std::floor(value))) {
    std::ostringstream message;
    message.precision(12);
    message << "--" << kNames[option] << " is '" << text << "', expected a "
            << (is_whole ? "whole " : "") << "number from " << low << " to " << high
            << "; see --help";
    throw UserError(message.str());
  }
  return value;
}

Options parse_options(int argc, char** argv) {
  std::vector<option> long_options{{"prompt", required_argument, nullptr, 'p'},
                                   {"prompts", required_argument, nullptr, 'f'},
                                   {"ids", no_argument, nullptr, 'i'},
                                   {"help", no_argument, nullptr, 'h'}};
  for (int i = kMaxNewTokens; i <= kNumSamples; ++i) {
    long_options.push_back({kNames[i], required_argument, nullptr, i});
  }
  long_options.push_back({});
  Options options;
  opterr = 0;
  for (int c; (c = getopt_long(argc, argv, ":h", long_options.data(), nullptr)) != -1;) {
    if (c == 'h') {
      std::cout << kUsage << std::flush;
      std::exit(std::cout ? 0 : 2);
    } else if (c == 'p') {
      options.prompt = optarg;
    } else if (c == 'f') {
      options.prompts_file = optarg;
    } else if (c == 'i') {
      options.print_ids = true;
    } else if (c == kNumSamples) {
      options.num_samples = parse_number(kNumSamples, optarg, 1, 1e9, true);
    } else if (c == ':') {
      throw UserError(std::string(argv[optind - 1]) + " needs a value; see --help");
    } else if (c == '?') {
      const bool is_letter = optopt > ' ';
      const auto name = is_letter ? std::string("-") + static_cast<char>(optopt)
                                  : std::string(argv[optind - 1]);
      throw UserError("unknown option " + name + "; see --help");
    } else {
      options.overrides.emplace_back(c, optarg);
    }
  }
  if (argc == optind) throw UserError("no model file; expected MODEL.pt; see --help");
  if (argc - optind > 1) {
    throw UserError(std::string("more than one model file: ") + argv[optind + 1] +
                    "; see --help");
  }
  if (!options.prompt.empty() && !options.prompts_file.empty()) {
    throw UserError("--prompt and --prompts cannot be combined; leave one out");
  }
  options.model = argv[optind];
  return options;
}

Settings resolve_settings(const Options& options, torch::jit::Module& module) {
  const auto defaults = module.get_method("defaults")({}).toTuple()->elements();
  Settings settings{defaults[0].toInt(), defaults[1].toDouble(), defaults[2].toInt(),
                    defaults[3].toDouble(), defaults[4].toInt()};
  for (const auto& [option, text] : options.overrides) {
    switch (option) {
      case kMaxNewTokens:
        settings.max_new_tokens = parse_number(option, text, 1, 1e7, true);
        break;
      case kTemperature:
        settings.temperature = parse_number(option, text, 0, 1e6, false);
        if (settings.temperature > 0) parse_number(option, text, 0.001, 1e6, false);
        break;
      case kTopK:
        settings.top_k = parse_number(option, text, 0, 1e9, true);
        break;
      case kTopP:
        settings.top_p = parse_number(option, text, 1e-30, 1e6, false);
        break;
      case kSeed:
        settings.seed = parse_number(option, text, 0, 4294967295.0, true);
        break;
    }
  }
  return settings;
}

torch::jit::Module load(const std::string& path) {
  std::error_code error;  // Opening a FIFO could wait forever.
  if (!std::filesystem::is_regular_file(path, error) || !std::ifstream(path)) {
    throw UserError("cannot read " + path + "; " + kExpectedModel);
  }
  torch::jit::ExtraFilesMap extra_files{{"config.json", ""}};
  torch::jit::Module module;
  try {
    module = torch::jit::load(path, torch::kCPU, extra_files);
  } catch (const std::exception&) {
    throw UserError(path + " is not a TorchScript file; " + kExpectedModel);
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
  const auto length = static_cast<int64_t>(prompt.size());
  auto tokens = torch::zeros({1, length + settings.max_new_tokens}, torch::kInt64);
  std::copy(prompt.begin(), prompt.end(), tokens.data_ptr<int64_t>());
  auto cache = module.get_method("new_cache")({1});
  for (int64_t i = 0; i < settings.max_new_tokens; ++i) {
    const auto result = step({tokens.narrow(1, 0, length + i), cache}).toTuple();
    const auto logits = result->elements()[0];
    cache = result->elements()[1];
    const auto token = sample({logits, i, settings.temperature, settings.top_k, settings.top_p,
                               settings.seed})
                           .toTensor()
                           .item<int64_t>();
    tokens.data_ptr<int64_t>()[length + i] = token;
    if (!emit(token)) return;
  }
}

bool ends_with(const std::string& text, const std::string& suffix) {
  return text.size() >= suffix.size() &&
         text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0;
}

void continue_prompt(torch::jit::Module& module, const std::string& prompt,
                     const Settings& settings, bool print_ids) {
  const auto end_of_text = module.attr("end_of_text").toInt();
  const auto decode = [&](const std::vector<int64_t>& tokens) {
    return module.get_method("decode")({tokens}).toStringRef();
  };
  const auto encode = [&](const std::string& text) {
    return module.get_method("encode")({text}).toIntVector();
  };
  const auto text = decode(encode(prompt));  // Python also replaces malformed UTF-8 first.
  auto start = encode(text);
  if (!print_ids) std::cout << text << std::flush;
  if (start.empty()) start.push_back(end_of_text);

  std::vector<int64_t> pending;  // tokens that end inside a character
  generate(module, start, settings, [&](int64_t token) {
    if (print_ids) {
      std::cout << token << ' ';
      return true;
    }
    if (token == end_of_text) return false;
    pending.push_back(token);
    const auto text = decode(pending);
    if (!ends_with(text, "\xEF\xBF\xBD")) {  // U+FFFD
      std::cout << text << std::flush;
      pending.clear();
    }
    return static_cast<bool>(std::cout);
  });
  std::cout << decode(pending) << std::endl;
}

void run(int argc, char** argv) {
  const auto options = parse_options(argc, argv);
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
  if (options.prompts_file.empty()) return print_samples(options.prompt);
  std::ifstream file(options.prompts_file);
  const bool is_standard_input = options.prompts_file == "-";
  std::istream& prompts = is_standard_input ? std::cin : static_cast<std::istream&>(file);
  const UserError unreadable("cannot read " + options.prompts_file +
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
    run(argc, argv);
    if (!std::cout.flush()) throw UserError("cannot write to standard output");
    return 0;
  } catch (const UserError& error) {
    std::cerr << "error: " << error.what() << '\n';
  } catch (const std::exception& error) {  // Errors of libtorch append a stack trace.
    const std::string message = error.what();
    std::cerr << "error: the model failed: " << message.substr(0, message.find('\n'))
              << "; check the file with `python -m bridge check`\n";
  }
  return 2;
}
