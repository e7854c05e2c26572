// Reads NumPy's .npy files (format 1.0 to 3.0, C order, little-endian numbers) into memory that DLPack can describe.
// A file is input from outside: each number in it is checked before it is used.
#pragma once

#include <plasma_store.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

// One array: its bytes, and what DLPack needs to know of them. Row-major, on the CPU.
struct NpyArray {
  DLDataType dtype{};
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  // in elements, as DLPack counts them
  std::vector<char> bytes;

  // A view of this array; valid while the array lives and is not moved.
  DLTensor view() {
    DLTensor tensor{};
    tensor.data = bytes.data();
    tensor.device = {kDLCPU, 0};
    tensor.ndim = static_cast<std::int32_t>(shape.size());
    tensor.dtype = dtype;
    tensor.shape = shape.data();
    tensor.strides = strides.data();
    return tensor;
  }
};

namespace npy_detail {

// The text that follows `'key':` in the header, which is a Python dictionary written by NumPy.
inline std::string after_key(const std::string& header, const std::string& key) {
  const std::size_t at = header.find("'" + key + "':");
  if (at == std::string::npos) throw std::runtime_error("the .npy header has no '" + key + "': " + header);
  const std::size_t value = header.find_first_not_of(' ', at + key.size() + 3);
  if (value == std::string::npos) throw std::runtime_error("the .npy header ends after '" + key + "': " + header);
  return header.substr(value);
}

inline DLDataType dtype_of(const std::string& text) {
  static const std::map<std::string, DLDataType> known = {
      {"'|u1'", {kDLUInt, 8, 1}}, {"'<i4'", {kDLInt, 32, 1}},   {"'<i8'", {kDLInt, 64, 1}},
      {"'<f4'", {kDLFloat, 32, 1}}, {"'<f8'", {kDLFloat, 64, 1}},
  };
  const auto found = known.find(text.substr(0, 5));
  if (found == known.end()) throw std::runtime_error("a .npy dtype that this demo does not read: " + text.substr(0, 8));
  return found->second;
}

// The numbers of `(1797, 8, 8)`, `(1797,)` or `()`.
inline std::vector<std::int64_t> shape_of(const std::string& text) {
  const std::size_t end = text.find(')');
  if (text[0] != '(' || end == std::string::npos) throw std::runtime_error("not a .npy shape: " + text.substr(0, 40));
  std::vector<std::int64_t> shape;
  for (std::size_t at = 1; (at = text.find_first_not_of(", ", at)) < end;) {
    std::size_t digits = 0;
    shape.push_back(std::stoll(text.substr(at, end - at), &digits));
    if (shape.back() < 0 || shape.size() > 32) throw std::runtime_error("not a .npy shape: " + text.substr(0, end + 1));
    at += digits;
  }
  return shape;
}

// Offset of the dictionary's first byte and its length, from the fixed part of the file.
inline std::pair<std::size_t, std::size_t> header_span(const std::vector<char>& file) {
  if (file.size() < 12 || std::memcmp(file.data(), "\x93NUMPY", 6) != 0) throw std::runtime_error("not a .npy file");
  const auto byte = [&](std::size_t at) { return static_cast<std::size_t>(static_cast<unsigned char>(file[at])); };
  if (byte(6) < 1 || byte(6) > 3) throw std::runtime_error("unknown .npy version " + std::to_string(byte(6)));
  const bool short_length = byte(6) == 1;  // later versions count the header in four bytes
  std::size_t length = byte(8) | byte(9) << 8;
  if (!short_length) length |= byte(10) << 16 | byte(11) << 24;
  const std::size_t start = short_length ? 10 : 12;
  if (length > file.size() - start) {
    throw std::runtime_error("a .npy header of " + std::to_string(length) + " bytes in a file of " +
                             std::to_string(file.size()));
  }
  return {start, length};
}

// Row-major strides in elements; checks on the way that the array fits into what the file holds.
inline std::vector<std::int64_t> strides_of(const std::vector<std::int64_t>& shape, std::size_t elements_in_file) {
  std::vector<std::int64_t> strides(shape.size());
  std::int64_t elements = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    strides[i] = elements;
    if (__builtin_mul_overflow(elements, shape[i], &elements)) throw std::runtime_error("a shape that overflows");
  }
  if (static_cast<std::size_t>(elements) != elements_in_file) {
    throw std::runtime_error("the .npy header promises " + std::to_string(elements) + " elements, the file holds " +
                             std::to_string(elements_in_file));
  }
  return strides;
}

}  // namespace npy_detail

// The array in the file at `path`. Throws std::runtime_error that says what is wrong with it.
inline NpyArray read_npy(const std::string& path) try {
  using namespace npy_detail;
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw std::runtime_error(std::strerror(errno));
  const std::vector<char> file{std::istreambuf_iterator<char>(stream), {}};
  const auto [start, length] = header_span(file);
  const std::string header(file.data() + start, length);
  if (after_key(header, "fortran_order").rfind("False", 0) != 0) throw std::runtime_error("not in C order: " + header);

  NpyArray array;
  array.dtype = dtype_of(after_key(header, "descr"));
  array.shape = shape_of(after_key(header, "shape"));
  array.bytes.assign(file.begin() + static_cast<std::ptrdiff_t>(start + length), file.end());
  const std::size_t size = array.dtype.bits / 8U;
  if (array.bytes.size() % size != 0) {
    throw std::runtime_error(std::to_string(array.bytes.size()) + " bytes are no whole number of elements of " +
                             std::to_string(size));
  }
  array.strides = strides_of(array.shape, array.bytes.size() / size);
  return array;
} catch (const std::exception& error) {
  throw std::runtime_error(path + ": " + error.what());
}
