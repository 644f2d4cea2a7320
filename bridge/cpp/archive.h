// Checks the CRC-32 of every member of a model file, because libtorch reads them without doing so.

#pragma once

#include <caffe2/serialize/inline_container.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>

namespace archive {

// The CRC-32 of zip archives, eight bytes at a time ("slicing by 8").
inline uint32_t crc32(const uint8_t* data, size_t size) {
  static const auto tables = [] {
    std::array<std::array<uint32_t, 256>, 8> tables{};
    for (uint32_t byte = 0; byte < 256; ++byte) {
      uint32_t crc = byte;
      for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
      tables[0][byte] = crc;
    }
    for (int i = 1; i < 8; ++i) {
      for (int byte = 0; byte < 256; ++byte) {
        const auto crc = tables[i - 1][byte];
        tables[i][byte] = crc >> 8 ^ tables[0][crc & 0xFF];
      }
    }
    return tables;
  }();
  uint32_t crc = ~0u;
  for (; size >= 8; size -= 8, data += 8) {
    uint32_t next = 0;
    for (int i = 0; i < 4; ++i) {
      next ^= tables[7 - i][(crc >> 8 * i & 0xFF) ^ data[i]] ^ tables[3 - i][data[i + 4]];
    }
    crc = next;
  }
  for (; size > 0; --size, ++data) crc = crc >> 8 ^ tables[0][(crc & 0xFF) ^ *data];
  return ~crc;
}

// Reads little-endian numbers from a part of a file.
class Bytes {
 public:
  Bytes(std::ifstream& file, uint64_t offset, uint64_t size) : data_(size, '\0') {
    if (!file.seekg(offset) || !file.read(data_.data(), size)) {
      throw std::runtime_error("its table of contents is cut short");
    }
  }

  uint64_t number(size_t offset, int size) const {
    if (offset > data_.size() || data_.size() - offset < static_cast<size_t>(size)) {
      throw std::runtime_error("its table of contents is damaged");
    }
    uint64_t value = 0;
    for (int i = size; i-- > 0;) value = value << 8 | static_cast<uint8_t>(data_[offset + i]);
    return value;
  }

  const std::string& data() const { return data_; }

 private:
  std::string data_;
};

// The CRC-32 of every member by name, from the archive's table of contents (the central directory).
// Format: APPNOTE.TXT of PKWARE, sections 4.3.12 to 4.3.16.
inline std::map<std::string, uint32_t> read_checksums(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const auto size = static_cast<uint64_t>(file.seekg(0, std::ios::end).tellg());
  const uint64_t end_size = std::min<uint64_t>(size, 22 + 0xFFFF);  // with the longest comment
  const Bytes end(file, size - end_size, end_size);
  const auto record = end.data().rfind("PK\x05\x06");
  if (record == std::string::npos) throw std::runtime_error("it has no table of contents");
  auto count = end.number(record + 10, 2);
  auto length = end.number(record + 12, 4), offset = end.number(record + 16, 4);
  if (count == 0xFFFF || length == 0xFFFFFFFF || offset == 0xFFFFFFFF) {  // zip64
    const Bytes end64(file, end.number(record - 20 + 8, 8), 56);
    count = end64.number(32, 8), length = end64.number(40, 8), offset = end64.number(48, 8);
  }
  if (length > size) throw std::runtime_error("its table of contents is damaged");
  const Bytes table(file, offset, length);
  std::map<std::string, uint32_t> checksums;
  for (size_t entry = 0; count > 0; --count) {
    const auto name_length = table.number(entry + 28, 2);
    checksums[table.data().substr(entry + 46, name_length)] = table.number(entry + 16, 4);
    entry += 46 + name_length + table.number(entry + 30, 2) + table.number(entry + 32, 2);
  }
  return checksums;
}

// Throws std::exception if a member of the archive does not match its checksum.
inline void verify(const std::string& path) {
  const auto checksums = read_checksums(path);
  caffe2::serialize::PyTorchStreamReader reader(path);
  for (const auto& [name, checksum] : checksums) {
    // libtorch leaves out the directory that contains all members.
    const auto [data, size] = reader.getRecord(name.substr(name.find('/') + 1));
    if (crc32(static_cast<const uint8_t*>(data.get()), size) != checksum) {
      throw std::runtime_error(name + " does not match its checksum");
    }
  }
}

}  // namespace archive
