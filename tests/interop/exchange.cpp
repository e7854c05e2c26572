//! What C++ writes and reads in the interop matrix: commands and answers as in exchange.c.
#include <plasma_store.hpp>

#include <iostream>
#include <sstream>

namespace {

using plasma::Client;
using plasma::ObjectId;

std::int64_t number(std::istream& words) {
  std::int64_t found = 0;
  words >> found;
  return found;
}

ObjectId id_of(std::istream& words) {
  std::string hex;
  words >> hex;
  return ObjectId::from_hex(hex);
}

plasma::Shape numbers(std::istream& words, std::size_t count) {
  plasma::Shape found(count);
  for (std::int64_t& each : found) words >> each;
  return found;
}

std::vector<std::uint8_t> bytes_of(const std::string& hex) {
  std::vector<std::uint8_t> bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    bytes.push_back(static_cast<std::uint8_t>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

std::string hex_of(plasma::span<const std::uint8_t> bytes) {
  const char* const digits = "0123456789abcdef";
  std::string hex;
  for (const std::uint8_t byte : bytes) (hex += digits[byte >> 4]) += digits[byte & 15];
  return hex;
}

plasma::DType dtype_of(std::istream& words) {
  const auto code = static_cast<plasma::TypeCode>(number(words));
  const auto bits = static_cast<std::uint8_t>(number(words));
  return {code, bits, static_cast<std::uint16_t>(number(words))};
}

void write_bundle(const Client& client, const ObjectId& id, plasma::TensorView& view, bool padded) {
  if (!padded) return client.put_tensors(id, {{"x", view}});
  // Elements of less than a byte that have a byte each: for C only.
  const DLTensor tensor = view.dlpack();
  const tensor_bundle_item item{"x", &tensor, DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED};
  const plasma_status status = tensor_bundle_write(client.handle(), id.raw(), &item, 1, nullptr);
  if (status != PLASMA_OK) throw plasma::Error::last(status, "tensor_bundle_write");
}

std::string write_tensor(const Client& client, std::istream& words, bool bundled) {
  const ObjectId id = id_of(words);
  const plasma::DType dtype = dtype_of(words);
  const bool padded = number(words) != 0;
  const auto ndim = static_cast<std::size_t>(number(words));
  const plasma::Shape shape = numbers(words, ndim), strides = numbers(words, ndim);
  std::string hex;
  words >> hex;
  const auto bytes = bytes_of(hex);
  plasma::TensorView view(bytes.data(), dtype, shape, strides);
  if (bundled) {
    write_bundle(client, id, view, padded);
  } else if (padded) {
    DLManagedTensorVersioned tensor{};
    tensor.version.major = DLPACK_MAJOR_VERSION;
    tensor.flags = DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED;
    tensor.dl_tensor = view.dlpack();
    client.put_tensor(id, tensor);
  } else {
    client.put_tensor(id, view);
  }
  return "ok";
}

// In elements, of which several may share a byte.
plasma::Shape strides_of(const plasma::Tensor& tensor) {
  plasma::Shape strides(tensor.ndim(), 1);
  const auto width = static_cast<std::int64_t>(tensor.dtype().element_bytes());
  for (std::size_t i = strides.size(); i-- > 0;) {
    if (width > 0) {
      strides[i] = tensor.byte_strides()[i] / width;
    } else if (i + 1 < strides.size()) {
      strides[i] = strides[i + 1] * tensor.shape()[i + 1];
    }
  }
  return strides;
}

std::string read_tensor(const Client& client, std::istream& words, bool bundled) {
  const ObjectId id = id_of(words);
  const plasma::Tensor tensor =
      bundled ? client.get_tensors(id, std::chrono::milliseconds(0)).at("x") : client.get_tensor(id, std::chrono::milliseconds(0));
  const plasma::Buffer object = client.get(tensor.id());
  const auto bytes = tensor.bytes();
  const bool same = object.data().begin() <= bytes.begin() && bytes.end() <= object.data().end();
  const DLDataType dtype = tensor.dtype();
  std::ostringstream answer;
  answer << int{dtype.code} << ' ' << int{dtype.bits} << ' ' << dtype.lanes << ' ' << same << ' ' << tensor.ndim();
  for (const std::int64_t length : tensor.shape()) answer << ' ' << length;
  for (const std::int64_t stride : strides_of(tensor)) answer << ' ' << stride;
  answer << ' ' << hex_of(bytes);
  return answer.str();
}

std::string look(const Client& client, std::istream& words) {
  const plasma::Tensor tensor = client.get_tensor(id_of(words), std::chrono::milliseconds(0));
  const auto view = tensor.view<std::uint8_t, 2>();
  std::string answer;
  for (std::int64_t row = 0, column = 0; words >> row >> column;) answer += std::to_string(view(row, column)) + ' ';
  return answer;
}

std::string answer(const Client& client, const std::string& line) {
  std::istringstream words(line);
  std::string command;
  words >> command;
  try {
    if (command == "W" || command == "B") return write_tensor(client, words, command == "B");
    if (command == "R" || command == "G") return read_tensor(client, words, command == "G");
    return look(client, words);
  } catch (const plasma::Error& error) {
    return std::string("!") + error.what();
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const Client client = Client::connect(argv[1]);
  for (std::string line; std::getline(std::cin, line);) std::cout << answer(client, line) << std::endl;
}
