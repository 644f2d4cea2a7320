// valyrian-run: continues a prompt with a GGUF file, and prints each token as it comes.
//
// Build it with nothing but a C++17 compiler: g++ -std=c++17 -O2 main.cpp -o valyrian-run

#include <algorithm>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "options.hpp"
#include "valyrian.hpp"

namespace {

using valyrian::Error;
using valyrian::Model;
using valyrian::Options;
using valyrian::Settings;

const char* kVersion = "valyrian-gpt 0.2.0\n";  // valyrian_jax.__version__
const char* kUsage =
    "usage: valyrian-run MODEL.gguf [options]\n"
    "\n"
    "Continues a prompt up to the end of the document, with a file that\n"
    "`python -m bridge export --format gguf` wrote.\n"
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
    "  --instructions NAME   base, avx2 or avx512 [default: the best of this processor]\n"
    "  --version             print the version\n"
    "  --help                print this text\n"
    "\n"
    "Options that you leave out keep the settings in the file.\n"
    "Example: valyrian-run valyrian.gguf --prompt \"Valar morghūlis\" --seed 9\n";

constexpr int64_t kBatch = 32;  // texts that are generated together

void print_text(const Model& model, const std::string& prompt, const Settings& settings) {
  std::cout << valyrian::replace_malformed(prompt) << std::flush;
  for (const std::string& piece : model.stream(prompt, settings)) {
    if (!piece.empty()) std::cout << piece << std::flush;
    if (!std::cout) return;
  }
  std::cout << std::endl;
}

void print_ids(const Model& model, const std::string& prompt,
               const std::vector<Settings>& settings) {
  std::vector<valyrian::Generation> texts;
  for (const auto& each : settings) texts.push_back(model.start(model.encode_prompt(prompt), each));
  for (const auto& ids : model.generate_ids(texts)) {
    for (const int32_t id : ids) std::cout << id << ' ';
    std::cout << std::endl;
  }
}

void print_samples(const Model& model, const std::string& prompt, Settings settings,
                   const Options& options) {
  if (options.num_samples == 1 && !options.print_ids) return print_text(model, prompt, settings);
  for (int64_t first = 0; first < options.num_samples && std::cout; first += kBatch) {
    std::vector<Settings> batch;
    for (int64_t i = first; i < std::min(options.num_samples, first + kBatch); ++i) {
      batch.push_back(settings);
      settings.seed = (settings.seed + 1) % 4294967296;
    }
    if (options.print_ids) {
      print_ids(model, prompt, batch);
      continue;
    }
    const auto texts = model.generate(std::vector<std::string>(batch.size(), prompt), batch);
    for (size_t i = 0; i < batch.size(); ++i) {
      std::cout << "[seed " << batch[i].seed << "] " << texts[i] << std::endl;
    }
  }
}

void run(const std::vector<std::string>& arguments) {
  Options options(arguments);
  if (options.print_help || options.print_version) {
    std::cout << (options.print_help ? kUsage : kVersion);
    return;
  }
  const Model model(options.model, options.instructions);
  const Settings settings = options.resolve(model.defaults());
  if (options.prompts.empty()) return print_samples(model, options.prompt, settings, options);
  std::ifstream file(options.prompts);
  std::istream& prompts = options.prompts == "-" ? std::cin : static_cast<std::istream&>(file);
  const Error unreadable("cannot read " + options.prompts +
                         "; expected a text file with one prompt on each line");
  if (!prompts) throw unreadable;
  for (std::string line; std::getline(prompts, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    print_samples(model, line, settings, options);
  }
  if (prompts.bad()) throw unreadable;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run({argv + 1, argv + argc});
    if (!std::cout.flush()) throw Error("cannot write to standard output");
    return 0;
  } catch (const Error& error) {
    std::cerr << "error: " << error.what() << '\n';
  } catch (const std::exception& error) {
    std::cerr << "error: the program failed: " << error.what() << '\n';
  }
  return 2;
}
