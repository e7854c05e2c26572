// The same in C++: a tensor goes into a store and comes out again.
#include <plasma_store.hpp>

#include <iostream>
#include <vector>

int main() {
  const plasma::Store store = plasma::Store::start();
  const plasma::Client client = plasma::Client::connect(store.socket());
  const std::vector<float> numbers{1, 2, 3};
  const auto id = plasma::ObjectId::random();
  client.put_tensor(id, numbers, {3});
  const plasma::Tensor tensor = client.get_tensor(id);
  std::cout << plasma::version() << '\n';
  return tensor.values<float>()[2] == 3 ? 0 : 1;
}
