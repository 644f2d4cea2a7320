// Reads damaged files, or lets threads share one model. tests/bench/native_checks.py builds it with
// sanitizers, which end the program where the headers do something undefined.
//
//   native_stress damage MODEL.gguf COUNT [SEED]
//   native_stress share MODEL.gguf THREADS

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "valyrian.hpp"

namespace {

using Bytes = std::vector<char>;
using Random = std::mt19937_64;

size_t pick(Random& random, size_t count) { return static_cast<size_t>(random() % count); }

// Changes 1 to 4 places, most of them in the header: a byte, a bit, a number, a cut or a copy.
void damage(Bytes& bytes, size_t header, Random& random) {
  const uint64_t numbers[] = {0, 1, 31, 255, 1 << 16, 1ull << 31, 1ull << 32, 1ull << 61, ~0ull};
  for (size_t change = pick(random, 4) + 1; change > 0 && bytes.size() > 64; --change) {
    const size_t end = pick(random, 8) ? std::min(header, bytes.size()) : bytes.size();
    const size_t at = pick(random, end - 16);
    const uint64_t number = numbers[pick(random, std::size(numbers))];
    switch (pick(random, 6)) {
      case 0: bytes[at] = static_cast<char>(random()); break;
      case 1: bytes[at] = static_cast<char>(bytes[at] ^ (1 << pick(random, 8))); break;
      case 2: std::memcpy(&bytes[at], &number, 4); break;
      case 3: std::memcpy(&bytes[at], &number, 8); break;
      case 4: std::memmove(&bytes[at], &bytes[pick(random, end - 16)], 16); break;
      default:
        if (pick(random, 4) == 0) bytes.resize(at);
    }
  }
}

// Loads damaged copies of a file, and generates with those that can be loaded.
int read_damaged(const Bytes& content, size_t count, uint64_t seed) {
  const std::string_view text(content.data(), content.size());
  const size_t header = text.find("output_norm.bias") + 100;
  size_t loaded = 0;
  for (size_t i = 0; i < count; ++i) {
    Random random(seed + i);
    Bytes bytes = content;
    damage(bytes, header, random);
    bytes.shrink_to_fit();  // so that a read beyond the end is found
    try {
      const valyrian::Model model(bytes.data(), bytes.size(), "avx2");
      valyrian::Settings settings = model.defaults();
      settings.max_new_tokens = 4;
      model.generate("the dragon", settings);
      ++loaded;
    } catch (const valyrian::Error&) {
    } catch (const std::exception& error) {
      std::printf("seed %zu: %s\n", static_cast<size_t>(seed) + i, error.what());
      return 1;
    }
  }
  std::printf("%zu damaged files: %zu loaded, %zu refused\n", count, loaded, count - loaded);
  return 0;
}

// Compares the texts of threads that share a model with those of one thread.
int share(const Bytes& content, size_t count) {
  valyrian::Model model(content.data(), content.size());
  model.set_threads(2);  // of each text, besides the threads that share the model
  const auto generate = [&](size_t seed) {
    valyrian::Settings settings = model.defaults();
    settings.max_new_tokens = 60;
    settings.seed = static_cast<int64_t>(seed);
    return model.generate("the dragon", settings);
  };
  std::vector<std::string> texts(count);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < count; ++i) threads.emplace_back([&, i] { texts[i] = generate(i); });
  for (auto& thread : threads) thread.join();
  for (size_t i = 0; i < count; ++i) {
    if (texts[i] != generate(i)) return 1;
  }
  std::printf("%zu threads: the texts of one\n", count);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  std::ifstream file(argv[2], std::ios::binary);
  const Bytes content{std::istreambuf_iterator<char>(file), {}};
  const auto count = static_cast<size_t>(std::atoll(argv[3]));
  if (argv[1] == std::string("share")) return share(content, count);
  return read_damaged(content, count, argc > 4 ? static_cast<uint64_t>(std::atoll(argv[4])) : 0);
}
