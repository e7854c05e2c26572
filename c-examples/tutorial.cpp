// The tutorial of Apache Arrow Plasma in C++: a tensor of 1000 float32, all 2.0, under the id of twenty '1' bytes.
//
//   tutorial                     puts and gets it, in a store that lives in this process and ends with it
//   tutorial SOCKET put|get      one half, in the store that listens at SOCKET
//   tutorial --in-process        hosts a store, puts the tensor into it and says where it listens, until Enter is pressed
//                                or the input ends; meanwhile run `tutorial.py SOCKET get` in another terminal
#include <plasma_store.h>

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr std::int64_t kPatienceMs = 30000;
constexpr std::int64_t kCount = 1000;

// Turns a status into an exception that says which call failed and why.
void check(plasma_status status, const std::string& call) {
  if (status != PLASMA_OK) {
    throw std::runtime_error(call + ": " + plasma_status_string(status) + ": " + plasma_last_error_message());
  }
}

struct Release {
  void operator()(plasma_client* client) const { plasma_client_free(client); }
  void operator()(plasma_store* store) const { plasma_store_stop(store); }
  void operator()(DLManagedTensor* tensor) const { tensor->deleter(tensor); }
};
using Client = std::unique_ptr<plasma_client, Release>;
using Store = std::unique_ptr<plasma_store, Release>;
using Tensor = std::unique_ptr<DLManagedTensor, Release>;

Store start_store() {
  plasma_store* store = nullptr;
  check(plasma_store_start(nullptr, &store), "plasma_store_start");
  return Store(store);
}

Client connect(const char* socket) {
  plasma_client* client = nullptr;
  check(plasma_connect(socket, nullptr, &client), "plasma_connect");
  return Client(client);
}

plasma_object_id tutorial_id() {
  const std::string ones(20, '1');
  plasma_object_id id;
  check(plasma_object_id_from_bytes(reinterpret_cast<const std::uint8_t*>(ones.data()), ones.size(), &id),
        "plasma_object_id_from_bytes");
  return id;
}

void put(plasma_client* client) {
  const plasma_object_id id = tutorial_id();
  std::vector<float> values(kCount, 2.0F);
  std::int64_t shape = kCount, stride = 1;
  DLTensor tensor{values.data(), {kDLCPU, 0}, 1, {kDLFloat, 32, 1}, &shape, &stride, 0};
  check(plasma_delete(client, &id, 1, nullptr), "plasma_delete");  // what an earlier run left
  check(tensor_write(client, &id, &tensor, nullptr), "tensor_write");
  std::cout << "put " << kCount << " float32 of value " << values[0] << '\n';
}

void get(plasma_client* client) {
  const plasma_object_id id = tutorial_id();
  DLManagedTensor* read = nullptr;
  check(tensor_read(client, &id, kPatienceMs, &read), "tensor_read");
  const Tensor tensor(read);
  const DLTensor& values = tensor->dl_tensor;
  if (values.ndim != 1 || values.dtype.code != kDLFloat || values.dtype.bits != 32 || values.strides[0] != 1) {
    throw std::runtime_error("the object is not a dense vector of float32");
  }
  const float* first = static_cast<const float*>(values.data);
  const auto [least, most] = std::minmax_element(first, first + values.shape[0]);
  const double sum = std::accumulate(first, first + values.shape[0], 0.0);
  std::cout << "got " << values.shape[0] << " float32 from " << *least << " to " << *most << ", sum " << sum << '\n';
}

void host() {
  const Store store = start_store();
  put(connect(plasma_store_socket(store.get())).get());
  std::cout << "socket " << plasma_store_socket(store.get()) << "\npress Enter to end the store" << std::endl;
  std::cin.get();
}

void put_and_get() {
  const Store store = start_store();
  const Client client = connect(plasma_store_socket(store.get()));
  put(client.get());
  get(client.get());
}

int usage(const char* program) {
  std::cerr << "usage: " << program << " [--in-process | SOCKET put|get]\n";
  return 2;
}

int run(const std::vector<std::string>& arguments, const char* program) {
  if (arguments.empty()) {
    put_and_get();
  } else if (arguments.size() == 1 && arguments[0] == "--in-process") {
    host();
  } else if (arguments.size() == 2 && arguments[1] == "put") {
    put(connect(arguments[0].c_str()).get());
  } else if (arguments.size() == 2 && arguments[1] == "get") {
    get(connect(arguments[0].c_str()).get());
  } else {
    return usage(program);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run({argv + 1, argv + argc}, argv[0]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
