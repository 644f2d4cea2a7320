// Finds stop strings in the bytes of a text, as `valyrian_jax.bundle.text_generation.StopScanner`
// does.

#pragma once

#include <algorithm>
#include <string>
#include <vector>

// Returns where the stop string that is complete first begins, or npos. Of two that end together,
// it is the longer one.
inline size_t find_stop(const std::string& bytes, const std::vector<std::string>& stops) {
  size_t first_start = std::string::npos, first_end = std::string::npos;
  for (const auto& stop : stops) {
    const size_t start = bytes.find(stop);
    if (start == std::string::npos) continue;
    const size_t end = start + stop.size();
    if (end < first_end || (end == first_end && start < first_start)) {
      first_start = start;
      first_end = end;
    }
  }
  return first_start;
}

// Returns the length of the longest end of the bytes with which a stop string begins.
inline size_t count_held(const std::string& bytes, const std::vector<std::string>& stops) {
  size_t held = 0;
  for (const auto& stop : stops) {
    for (size_t size = std::min(stop.size() - 1, bytes.size()); size > held; --size) {
      if (bytes.compare(bytes.size() - size, size, stop, 0, size) == 0) held = size;
    }
  }
  return held;
}
