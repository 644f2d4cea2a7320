// valyrian-run: continues a prompt with a GGUF file, and prints each token as it comes.
//
// Build it with nothing but a C++17 compiler: g++ -std=c++17 -O2 main.cpp -o valyrian-run

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "options.hpp"
#include "valyrian.hpp"

namespace {

using valyrian::fail;
using valyrian::Model;
using valyrian::Options;
using valyrian::Settings;

const valyrian::Program kProgram{
    "valyrian-run",
    "MODEL.gguf",
    "`python -m bridge export --format gguf`",
    {"--threads", "--instructions"},
    "  --threads N           threads that work on a text [default: 1]\n"
    "  --instructions NAME   base, avx2 or avx512 [default: the best of this processor]\n"};

constexpr int64_t kBatch = 32;  // texts that are generated together

// The program writes with stdio, because iostreams double the size of a static program.
void print(const std::string& text) {
  const bool is_written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (!is_written || std::fflush(stdout) != 0) fail("cannot write to standard output");
}

void print_text(const Model& model, const std::string& prompt, const Settings& settings) {
  print(valyrian::replace_malformed(prompt));
  for (const std::string& piece : model.stream(prompt, settings)) print(piece);
  print("\n");
}

void print_ids(const Model& model, const std::string& prompt,
               const std::vector<Settings>& settings) {
  std::vector<valyrian::Generation> texts;
  for (const auto& each : settings) texts.push_back(model.start(model.encode_prompt(prompt), each));
  for (const auto& ids : model.generate_ids(texts)) {
    std::string line;
    for (const int32_t id : ids) line += std::to_string(id) + ' ';
    print(line + '\n');
  }
}

void print_samples(const Model& model, const std::string& prompt, Settings settings,
                   const Options& options) {
  if (options.num_samples == 1 && !options.print_ids) return print_text(model, prompt, settings);
  for (int64_t first = 0; first < options.num_samples; first += kBatch) {
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
      print("[seed " + std::to_string(batch[i].seed) + "] " + texts[i] + '\n');
    }
  }
}

// Reads a line without its end, which may be that of Windows; returns false after the last one.
bool read_line(std::FILE* file, std::string& line) {
  line.clear();
  int c = std::getc(file);
  if (c == EOF) return false;
  for (; c != EOF && c != '\n'; c = std::getc(file)) line += static_cast<char>(c);
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return true;
}

void run(const std::vector<std::string>& arguments) {
  const Options options(arguments, kProgram);
  if (!options.answer.empty()) return print(options.answer);
  Model model(options.model, options.instructions);
  model.set_threads(options.threads);
  const Settings settings = options.resolve(model.defaults());
  if (options.prompts.empty()) return print_samples(model, options.prompt, settings, options);
  std::FILE* const file = options.prompts == "-" ? stdin : std::fopen(options.prompts.c_str(), "r");
  std::string line;
  while (file && read_line(file, line)) print_samples(model, line, settings, options);
  if (!file || std::ferror(file)) {
    fail("cannot read " + options.prompts +
         "; expected a text file with one prompt on each line");
  }
}

}  // namespace

int main(int argc, char** argv) {
#ifdef __cpp_exceptions
  try {
    run({argv + 1, argv + argc});
    return 0;
  } catch (const valyrian::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: the program failed: %s\n", error.what());
  }
  return 2;
#else
  run({argv + 1, argv + argc});
#endif
}
