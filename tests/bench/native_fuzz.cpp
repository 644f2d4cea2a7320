// The target of libFuzzer: loads a file from memory, and generates with it if it can be loaded.
// tests/bench/native_checks.py builds it with clang and its sanitizers.

#include <cstddef>
#include <cstdint>

#include "valyrian.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const valyrian::Model model(data, size);
    valyrian::Settings settings = model.defaults();
    settings.max_new_tokens = 4;
    model.generate("the dragon", settings);
  } catch (const valyrian::Error&) {
  }
  return 0;
}
