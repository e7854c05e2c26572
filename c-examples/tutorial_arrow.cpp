// The tutorial of Apache Arrow Plasma in C++, with Arrow's own types: the C++ half of an old program, of which only
// the lines that talk to the client have changed. The tensor is that of tutorial.cpp and tutorial.py.
//
//   tutorial_arrow SOCKET put|get      one half, in the store that listens at SOCKET
//
// Needs Arrow's headers and libarrow, which the wheel of pyarrow brings: pyarrow.get_include(),
// pyarrow.get_library_dirs().
#include <arrow/api.h>
#include <arrow/tensor.h>
#include <plasma_store/arrow.hpp>

#include <algorithm>
#include <iostream>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

namespace {

using namespace std::chrono_literals;

arrow::Status put(const plasma::Client& client, const plasma::ObjectId& id) {
  std::vector<float> values(1000, 2.0F);
  const auto memory = arrow::Buffer::Wrap(values);
  ARROW_ASSIGN_OR_RAISE(const auto tensor, arrow::Tensor::Make(arrow::float32(), memory, {1000}));
  client.remove(id);  // what an earlier run left
  ARROW_RETURN_NOT_OK(plasma::put_arrow_tensor(client, id, *tensor));
  std::cout << "put " << tensor->size() << " float32 of value " << values[0] << '\n';
  return arrow::Status::OK();
}

arrow::Status get(const plasma::Client& client, const plasma::ObjectId& id) {
  ARROW_ASSIGN_OR_RAISE(const auto tensor, plasma::get_arrow_tensor(client, id, 30s));
  if (tensor->type_id() != arrow::Type::FLOAT) return arrow::Status::TypeError("a tensor of ", *tensor->type());
  const auto* first = reinterpret_cast<const float*>(tensor->raw_data());
  const auto [least, most] = std::minmax_element(first, first + tensor->size());
  const double sum = std::accumulate(first, first + tensor->size(), 0.0);
  std::cout << "got " << tensor->size() << " float32 from " << *least << " to " << *most << ", sum " << sum << '\n';
  return arrow::Status::OK();
}

int run(const std::string& socket, const std::string& half) {
  const plasma::Client client = plasma::Client::connect(socket);
  const auto id = plasma::ObjectId::from_bytes(std::string(20, '1'));
  const arrow::Status status = half == "put" ? put(client, id) : get(client, id);
  if (!status.ok()) std::cerr << status.ToString() << '\n';
  return status.ok() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string half = argc == 3 ? argv[2] : "";
  if (half != "put" && half != "get") {
    std::cerr << "usage: " << argv[0] << " SOCKET put|get\n";
    return 2;
  }
  try {
    return run(argv[1], half);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
