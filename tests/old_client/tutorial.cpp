// An old program: the C++ tutorial of Plasma 11, linked with Plasma 11's own client, and every other call that client has.
// Usage: tutorial SOCKET
//
// It prints what it sees, so that what it sees in two stores can be compared, and ends with 1 when a call fails that must
// not. Times, addresses and ids drawn at random are not printed.
#include <arrow/api.h>
#include <arrow/io/memory.h>
#include <arrow/ipc/api.h>
#include <arrow/tensor.h>
#include <plasma/client.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iostream>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using plasma::ObjectBuffer;
using plasma::ObjectID;
using plasma::PlasmaClient;

constexpr int64_t kCount = 1000;

void check(const arrow::Status& status) {
  if (!status.ok()) {
    throw std::runtime_error(status.ToString());
  }
}

template <typename Value>
Value take(arrow::Result<Value> result) {
  check(result.status());
  return std::move(result).ValueOrDie();
}

// An id of twenty times the same character. The tutorial's own is that of '1'.
ObjectID id(char character) { return ObjectID::from_binary(std::string(20, character)); }

// What came of a call that may fail, in words that do not depend on the store.
std::string outcome(const arrow::Status& status) { return status.ok() ? "OK" : status.CodeAsString(); }

std::unique_ptr<PlasmaClient> connect(const std::string& socket) {
  auto client = std::make_unique<PlasmaClient>();
  check(client->Connect(socket));
  return client;
}

ObjectBuffer get(PlasmaClient& client, const ObjectID& wanted, int64_t timeout_ms) {
  std::vector<ObjectBuffer> buffers;
  check(client.Get({wanted}, timeout_ms, &buffers));
  return buffers[0];
}

void list(PlasmaClient& client, const std::string& when) {
  plasma::ObjectTable objects;
  check(client.List(&objects));
  std::map<std::string, std::string> lines;
  for (const auto& [known, entry] : objects) {
    const bool sealed = entry->state == plasma::ObjectState::PLASMA_SEALED;
    lines[known.hex()] = std::to_string(entry->data_size) + " + " + std::to_string(entry->metadata_size) + " bytes, " +
                         std::to_string(entry->ref_count) + " holders, " + (sealed ? "sealed" : "unsealed");
  }
  std::cout << "objects " << when << ":\n";
  for (const auto& [name, line] : lines) {
    std::cout << "  " << name << ": " << line << '\n';
  }
}

// "Create", "Seal" and "Get" of the tutorial; with metadata, which it leaves out.
void raw_object(PlasmaClient& client) {
  const std::string text = "hello from C++", about = "about it";
  std::shared_ptr<arrow::Buffer> data;
  // While there is nothing yet that the old store could evict in vain.
  std::cout << "more than fits: " << outcome(client.Create(id('0'), client.store_capacity() + 1, nullptr, 0, &data)) << '\n';
  const auto* metadata = reinterpret_cast<const uint8_t*>(about.data());
  check(client.Create(id('0'), static_cast<int64_t>(text.size()), metadata, static_cast<int64_t>(about.size()), &data));
  std::memcpy(data->mutable_data(), text.data(), text.size());
  list(client, "while one is filled");
  check(client.Seal(id('0')));
  data.reset();
  const ObjectBuffer got = get(client, id('0'), -1);
  std::cout << "got '" << got.data->ToString() << "' with '" << got.metadata->ToString() << "'\n";
}

// The tensor of the tutorial: 1000 float32 of value 2.0, as Arrow writes tensors.
void put_tensor(PlasmaClient& client) {
  std::vector<float> values(kCount, 2.0F);
  const arrow::Tensor tensor(arrow::float32(), arrow::Buffer::Wrap(values), {kCount});
  int64_t size = 0;
  check(arrow::ipc::GetTensorSize(tensor, &size));
  std::shared_ptr<arrow::Buffer> buffer;
  check(client.Create(id('1'), size, nullptr, 0, &buffer));
  arrow::io::FixedSizeBufferWriter stream(buffer);
  int32_t metadata_length = 0;
  int64_t body_length = 0;
  check(arrow::ipc::WriteTensor(tensor, &stream, &metadata_length, &body_length));
  check(client.Seal(id('1')));
}

void get_tensor(PlasmaClient& client) {
  const ObjectBuffer got = get(client, id('1'), -1);
  arrow::io::BufferReader reader(got.data);
  const std::shared_ptr<arrow::Tensor> tensor = take(arrow::ipc::ReadTensor(&reader));
  const auto* values = reinterpret_cast<const float*>(tensor->raw_data());
  const bool in_place = got.data->data() <= tensor->raw_data() &&
                        tensor->raw_data() + tensor->size() * 4 <= got.data->data() + got.data->size();
  double sum = 0;
  for (int64_t place = 0; place < tensor->size(); ++place) {
    sum += values[place];
  }
  std::cout << "tensor of " << tensor->size() << ' ' << tensor->type()->ToString() << ", sum " << sum
            << (in_place ? ", read where it lies\n" : ", copied\n");
}

std::string next_event(PlasmaClient& client, int descriptor) {
  ObjectID object;
  int64_t data_size = 0, metadata_size = 0;
  check(client.GetNotification(descriptor, &object, &data_size, &metadata_size));
  return "event: " + object.hex() + ' ' + std::to_string(data_size) + " + " + std::to_string(metadata_size) + '\n';
}

// "Subscribe" of the tutorial: another client puts, deletes and puts.
void events(PlasmaClient& client, PlasmaClient& other) {
  int descriptor = -1;
  check(client.Subscribe(&descriptor));
  // What there is already is told first, in the order of a hash table.
  const std::string first = next_event(client, descriptor), second = next_event(client, descriptor);
  std::cout << std::min(first, second) << std::max(first, second);
  check(other.CreateAndSeal(id('2'), "small", "m"));
  check(other.Delete(id('2')));
  check(other.CreateAndSealBatch({id('3'), id('4')}, {"three", "four"}, {"", "m"}));
  for (int told = 0; told < 4; ++told) {
    std::cout << next_event(client, descriptor);
  }
  close(descriptor);
}

// The calls that no tutorial shows.
void others(PlasmaClient& client, PlasmaClient& other) {
  std::shared_ptr<arrow::Buffer> data;
  check(client.Create(id('5'), 10, nullptr, 0, &data));
  bool present = true;
  check(other.Contains(id('5'), &present));
  std::cout << "unsealed: contained " << present << ", created again: "
            << outcome(other.Create(id('5'), 10, nullptr, 0, &data));
  std::cout << ", got: " << (get(other, id('5'), 1).data ? "something" : "nothing") << '\n';
  data.reset();
  std::cout << "abort while held: " << outcome(client.Abort(id('5'))) << '\n';
  std::cout << "seal of nothing: " << outcome(other.Seal(id('6'))) << '\n';
  check(client.Refresh({id('3'), id('9')}));
  uint8_t digest[plasma::kDigestSize] = {};
  check(client.Hash(id('3'), digest));
  check(client.SetClientOptions("old C++ program", 1000));
  std::cout << "capacity " << client.store_capacity() << ", the figures name the client: "
            << (client.DebugString().find("old C++ program") != std::string::npos) << '\n';
}

void deletion(PlasmaClient& client, PlasmaClient& other) {
  ObjectBuffer held = get(client, id('1'), -1);
  check(other.Delete(id('1')));
  list(client, "after a delete of what is held");
  held = ObjectBuffer();
  check(client.Delete({id('0'), id('3'), id('8')}));
  list(client, "in the end");
  int64_t evicted = 0;
  check(client.Evict(1, evicted));
  std::cout << "evicted " << evicted << " bytes\n";
}

void run(const std::string& socket) {
  const auto client = connect(socket), other = connect(socket);
  raw_object(*client);
  put_tensor(*client);
  get_tensor(*other);
  list(*client, "of the tutorial");
  events(*client, *other);
  others(*client, *other);
  deletion(*client, *other);
  check(client->Disconnect());
  check(other->Disconnect());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 2) {
      throw std::runtime_error("usage: tutorial SOCKET");
    }
    run(argv[1]);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
