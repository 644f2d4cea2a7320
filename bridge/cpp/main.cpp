// valyrian-generate: continues a prompt with a model file, text in, text out. The file holds the model, the tokenizer and
// the sampler, so this program only reads its options, calls the module and prints.

#include <ATen/Parallel.h>
#include <getopt.h>
#include <torch/csrc/jit/runtime/profiling_graph_executor_impl.h>
#include <torch/script.h>

#include <cmath>
#include <cstdio>
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
    "Continues a prompt until the document ends, with a file that `python -m bridge export` wrote.\n"
    "\n"
    "  --prompt TEXT         text to go on from [the beginning of a document]\n"
    "  --prompts FILE        one prompt a line, - for standard input; every one is continued\n"
    "  --max-new-tokens N    tokens to generate at most\n"
    "  --temperature T       0, always the most probable token, or at least 0.001\n"
    "  --top-k K             only the K most probable tokens; 0: all\n"
    "  --top-p P             only the nucleus of mass P; 1: all\n"
    "  --seed S              0 to 4294967295; the same seed gives the same text\n"
    "  --num-samples N       texts a prompt, with seeds from --seed on\n"
    "  --ids                 print token ids instead of text, and do not stop at the end of the document\n"
    "  --help                this text\n"
    "\n"
    "Settings not given are those stored in the file.\n"
    "Example: valyrian-generate valyrian.pt --prompt \"valar morghulis\" --seed 7\n";

// A mistake in the input: one line on standard error, exit status 2.
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

struct Options {
  std::string model, prompt, prompts;
  bool ids = false;
  int64_t num_samples = 1;
  std::vector<std::pair<int, std::string>> given;  // settings, in the order of the command line
};

constexpr const char* kNames[] = {"max-new-tokens", "temperature", "top-k", "top-p", "seed", "num-samples"};

double number(int setting, const std::string& text, double low, double high, bool whole) {
  size_t end = 0;
  double value = NAN;
  try {
    value = std::stod(text, &end);
  } catch (const std::logic_error&) {
  }
  if (end != text.size() || !(value >= low && value <= high) || (whole && value != std::floor(value))) {
    std::ostringstream message;
    message.precision(12);
    message << "--" << kNames[setting] << " is '" << text << "', expected a " << (whole ? "whole " : "") << "number from "
            << low << " to " << high << "; see --help";
    throw UserError(message.str());
  }
  return value;
}

Options parse(int argc, char** argv) {
  const option known[] = {{kNames[0], 1, nullptr, 0}, {kNames[1], 1, nullptr, 1}, {kNames[2], 1, nullptr, 2},
                          {kNames[3], 1, nullptr, 3}, {kNames[4], 1, nullptr, 4}, {kNames[5], 1, nullptr, 5}, {"prompt", 1, nullptr, 'p'},
                          {"prompts", 1, nullptr, 'f'}, {"ids", 0, nullptr, 'i'}, {"help", 0, nullptr, 'h'}, {}};
  Options options;
  opterr = 0;
  for (int c; (c = getopt_long(argc, argv, ":h", known, nullptr)) != -1;) {
    if (c == 'h') {
      std::cout << kUsage << std::flush;
      std::exit(std::cout ? 0 : 2);
    } else if (c == 'p') {
      options.prompt = optarg;
    } else if (c == 'f') {
      options.prompts = optarg;
    } else if (c == 'i') {
      options.ids = true;
    } else if (c == 5) {
      options.num_samples = number(5, optarg, 1, 1e9, true);
    } else if (c == ':' || c == '?') {
      const bool letter = c == '?' && optopt > ' ';
      const std::string word = letter ? std::string("-") + static_cast<char>(optopt) : argv[optind - 1];
      throw UserError(c == ':' ? word + " needs a value; see --help" : "unknown option " + word + "; see --help");
    } else {
      options.given.emplace_back(c, optarg);
    }
  }
  if (argc - optind != 1) {
    throw UserError(argc == optind ? "no model file given; see --help"
                                   : std::string("more than one model file given: ") + argv[optind + 1] + "; see --help");
  }
  if (!options.prompt.empty() && !options.prompts.empty()) throw UserError("give --prompt or --prompts, not both");
  options.model = argv[optind];
  return options;
}

Settings settle(const Options& options, torch::jit::Module& module) {
  const auto stored = module.get_method("defaults")({}).toTuple()->elements();
  Settings s{stored[0].toInt(), stored[1].toDouble(), stored[2].toInt(), stored[3].toDouble(), stored[4].toInt()};
  for (const auto& [setting, text] : options.given) {
    switch (setting) {
      case 0: s.max_new_tokens = number(0, text, 1, 1e7, true); break;
      case 1:
        s.temperature = number(1, text, 0, 1e6, false);
        if (s.temperature > 0) number(1, text, 0.001, 1e6, false);  // 0 or at least this
        break;
      case 2: s.top_k = number(2, text, 0, 1e9, true); break;
      case 3: s.top_p = number(3, text, 1e-30, 1e6, false); break;
      case 4: s.seed = number(4, text, 0, 4294967295.0, true); break;
    }
  }
  return s;
}

torch::jit::Module load(const std::string& path) {
  if (!std::ifstream(path)) {
    throw UserError("cannot read " + path + "; expected a file that `python -m bridge export` wrote");
  }
  torch::jit::ExtraFilesMap files{{"config.json", ""}};
  torch::jit::Module module;
  try {
    module = torch::jit::load(path, torch::kCPU, files);
  } catch (const std::exception&) {
    throw UserError(path + " is not a TorchScript file; expected one that `python -m bridge export` wrote");
  }
  if (files["config.json"].empty() || !module.find_method("generate_text") || !module.find_method("defaults")) {
    throw UserError(path + " is a TorchScript file, but not one that `python -m bridge export` wrote");
  }
  return module;
}

// Calls `emit` with every new token as it is drawn, until it returns false.
template <typename Emit>
void generate(torch::jit::Module& module, const std::vector<int64_t>& prompt, const Settings& s, Emit emit) {
  auto step = module.get_method("step"), sample = module.get_method("sample");
  auto tokens = torch::zeros({1, static_cast<int64_t>(prompt.size()) + s.max_new_tokens}, torch::kInt64);
  std::copy(prompt.begin(), prompt.end(), tokens.data_ptr<int64_t>());
  auto cache = module.get_method("new_cache")({1});
  for (int64_t i = 0; i < s.max_new_tokens; ++i) {
    const auto count = static_cast<int64_t>(prompt.size()) + i;
    const auto out = step({tokens.narrow(1, 0, count), cache}).toTuple();
    cache = out->elements()[1];
    const auto drawn = sample({out->elements()[0], i, s.temperature, s.top_k, s.top_p, s.seed}).toTensor().item<int64_t>();
    tokens.data_ptr<int64_t>()[count] = drawn;
    if (!emit(drawn)) return;
  }
}

void continue_prompt(torch::jit::Module& module, const std::string& prompt, const Settings& s, bool ids) {
  const auto end_of_text = module.attr("end_of_text").toInt();
  const auto decode = [&](const std::vector<int64_t>& tokens) {
    return module.get_method("decode")({tokens}).toStringRef();
  };
  const auto encode = [&](const std::string& text) { return module.get_method("encode")({text}).toIntVector(); };
  const auto text = decode(encode(prompt));  // malformed UTF-8 is replaced, as Python does before it encodes
  auto start = encode(text);
  if (!ids) std::cout << text << std::flush;
  if (start.empty()) start.push_back(end_of_text);

  std::vector<int64_t> waiting;  // tokens that end inside a character
  generate(module, start, s, [&](int64_t token) {
    if (ids) {
      std::cout << token << ' ';
      return true;
    }
    if (token == end_of_text) return false;
    waiting.push_back(token);
    const std::string text = decode(waiting), half = "\xEF\xBF\xBD";  // U+FFFD
    if (text.size() < 3 || text.compare(text.size() - 3, 3, half) != 0) {
      std::cout << text << std::flush;
      waiting.clear();
    }
    return static_cast<bool>(std::cout);
  });
  std::cout << decode(waiting) << std::endl;
}

void run(int argc, char** argv) {
  const auto options = parse(argc, argv);
  at::set_num_threads(1);                  // at batch 1 a second thread costs more than it gives
  torch::jit::getProfilingMode() = false;  // or the first two calls of every method are slow
  c10::InferenceMode inference;
  auto module = load(options.model);
  const auto settings = settle(options, module);
  const auto samples = [&](const std::string& prompt) {
    for (int64_t row = 0; row < options.num_samples; ++row) {
      auto s = settings;
      s.seed = (settings.seed + row) % 4294967296;
      if (options.num_samples > 1 && !options.ids) std::cout << "[seed " << s.seed << "] ";
      continue_prompt(module, prompt, s, options.ids);
    }
  };
  if (options.prompts.empty()) return samples(options.prompt);
  std::ifstream opened(options.prompts);
  std::istream& file = options.prompts == "-" ? std::cin : static_cast<std::istream&>(opened);
  if (!file) throw UserError("cannot read " + options.prompts + "; expected a text file with one prompt a line");
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    samples(line);
  }
  if (file.bad()) throw UserError("cannot read " + options.prompts + "; expected a text file with one prompt a line");
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc, argv);
    if (!std::cout.flush()) throw UserError("cannot write the text to standard output");
    return 0;
  } catch (const UserError& error) {
    std::cerr << "error: " << error.what() << '\n';
  } catch (const std::exception& error) {  // from libtorch, with a stack behind the first line
    const std::string message = error.what();
    std::cerr << "error: the model failed; `python -m bridge check` tells whether the file is whole: "
              << message.substr(0, message.find('\n')) << '\n';
  }
  return 2;
}
