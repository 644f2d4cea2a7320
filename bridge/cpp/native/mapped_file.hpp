// The bytes of a file: mapped into memory, or read where the system has no mmap.

#pragma once

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#if !defined(_WIN32) && !defined(__wasm__)
#define VALYRIAN_HAS_MMAP 1
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

#include "error.hpp"

namespace valyrian {

class MappedFile {
 public:
#ifdef VALYRIAN_HAS_MMAP
  explicit MappedFile(const std::string& path) {
    // Without O_NONBLOCK, opening a FIFO could wait forever.
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) fail(std::strerror(errno));
    struct stat status {};
    const bool is_file = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
    size_ = is_file ? static_cast<size_t>(status.st_size) : 0;
    void* const map =
        size_ > 0 ? ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0) : nullptr;
    ::close(descriptor);
    check(is_file, "it is a directory or a stream");
    check(map != MAP_FAILED, "cannot map it into memory");
    data_ = static_cast<const uint8_t*>(map);
  }
  ~MappedFile() {
    if (size_ > 0) ::munmap(const_cast<uint8_t*>(data_), size_);
  }
#else
  explicit MappedFile(const std::string& path) {
    std::FILE* const file = std::fopen(path.c_str(), "rb");
    if (!file) fail(std::strerror(errno));
    uint8_t block[1 << 16];
    while (const size_t count = std::fread(block, 1, sizeof block, file)) {
      content_.insert(content_.end(), block, block + count);
    }
    const bool is_read = !std::ferror(file);
    std::fclose(file);
    check(is_read, "it cannot be read");
    data_ = content_.data();
    size_ = content_.size();
  }
#endif
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  std::vector<uint8_t> content_;
};

}  // namespace valyrian
