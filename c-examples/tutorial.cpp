// The tutorial of Apache Arrow Plasma in C++: a tensor of 1000 float32, all 2.0, under the id of twenty '1' bytes.
//
//   tutorial                     puts and gets it, in a store that lives in this process and ends with it
//   tutorial SOCKET put|get      one half, in the store that listens at SOCKET
//   tutorial --in-process        hosts a store, puts the tensor into it and says where it listens, until Enter is
//   pressed
//                                or the input ends; meanwhile run `tutorial.py SOCKET get` in another terminal
#include <plasma_store.hpp>

#include <algorithm>
#include <iostream>
#include <numeric>
#include <string>
#include <vector>

namespace {

using namespace std::chrono_literals;
using plasma::Client;
using plasma::Store;

const plasma::ObjectId kTutorial = plasma::ObjectId::from_bytes(std::string(20, '1'));

void put(const Client& client) {
  const std::vector<float> values(1000, 2.0F);
  client.remove(kTutorial);  // what an earlier run left
  client.put_tensor(kTutorial, values, {1000});
  std::cout << "put " << values.size() << " float32 of value " << values[0] << '\n';
}

void get(const Client& client) {
  const plasma::Tensor tensor = client.get_tensor(kTutorial, 30s);
  const auto values = tensor.values<float>();
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  std::cout << "got " << values.size() << " float32 from " << *least << " to " << *most << ", sum " << sum << '\n';
}

void host() {
  const Store store = Store::start();
  put(Client::connect(store.socket()));
  std::cout << "socket " << store.socket() << "\npress Enter to end the store" << std::endl;
  std::cin.get();
}

void put_and_get() {
  const Store store = Store::start();
  const Client client = Client::connect(store.socket());
  put(client);
  get(client);
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
    put(Client::connect(arguments[0]));
  } else if (arguments.size() == 2 && arguments[1] == "get") {
    get(Client::connect(arguments[0]));
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
