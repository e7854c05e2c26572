// The demo's producer: puts two .npy files into a store, where other processes read them without a copy.
//
//   digits_store IMAGES.npy LABELS.npy                  hosts a store in this process and serves it until its standard
//                                                       input ends or SIGINT or SIGTERM comes
//   digits_store IMAGES.npy LABELS.npy --socket PATH    puts them into the store that listens at PATH, and ends
//
// The objects are called "digits/images" and "digits/labels". Prints one line `socket: PATH` when both are there.
#include <plasma_store.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <sstream>

#include "npy.hpp"

namespace {

void check(plasma_status status, const std::string& what) {
  if (status == PLASMA_OK) return;
  throw std::runtime_error(what + ": " + plasma_last_error_message() + " (" + plasma_status_string(status) + ")");
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
  plasma_store_options options{};
  options.struct_size = sizeof options;
  options.capacity = 64u << 20;
  plasma_store* store = nullptr;
  check(plasma_store_start(&options, &store), "starting a store");
  return Store(store);
}

Client connect(const std::string& socket) {
  plasma_client* client = nullptr;
  check(plasma_connect(socket.c_str(), nullptr, &client), "connecting");
  return Client(client);
}

plasma_object_id id_of(const char* name) {
  plasma_object_id id{};
  check(plasma_object_id_from_name(nullptr, name, &id), name);
  return id;
}

// The file and the byte in it that `address` is, as `INODE at byte OFFSET (NAME)`: the same in two processes means the
// same physical memory.
std::string backing(const void* pointer) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t first = 0, end = 0, offset = 0, inode = 0;
    char mode[5] = "", name[64] = "";
    const int fields = std::sscanf(line.c_str(), "%lx-%lx %4s %lx %*s %lu %63s", &first, &end, mode, &offset, &inode, name);
    if (fields < 5 || address < first || address >= end) continue;
    if (mode[3] != 's') throw std::runtime_error("private memory: " + line);
    return std::to_string(inode) + " at byte " + std::to_string(offset + address - first) + " (" + name + ")";
  }
  throw std::runtime_error("an address that is not mapped");
}

// Puts the file's array into the store, reads it back and says where it lies.
void put(plasma_client* client, const char* name, const std::string& path) {
  NpyArray array = read_npy(path);
  const DLTensor view = array.view();
  const plasma_object_id id = id_of(name);
  check(tensor_write(client, &id, &view, nullptr), name);

  DLManagedTensor* stored = nullptr;
  check(tensor_read(client, &id, 0, &stored), name);
  const Tensor hold(stored);
  const char* data = static_cast<const char*>(stored->dl_tensor.data) + stored->dl_tensor.byte_offset;
  std::cout << "put " << array.bytes.size() << " bytes of " << path << " into the store as \"" << name << "\"\n"
            << name << " in memfd " << backing(data) << std::endl;
}

// Blocked before the store's threads start, so that only `serve` ever takes them.
sigset_t block_signals() {
  sigset_t signals, before;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, &before);
  struct sigaction action {};
  action.sa_handler = [](int) {};  // it need do nothing: a signal ends ppoll
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  return before;
}

// Returns when standard input ends or a signal came.
void serve(const sigset_t& unblocked) {
  pollfd input{STDIN_FILENO, POLLIN, 0};
  char dropped[256];
  while (ppoll(&input, 1, nullptr, &unblocked) > 0 && read(STDIN_FILENO, dropped, sizeof dropped) > 0) {
  }
}

void run(const std::string& images, const std::string& labels, const std::optional<std::string>& given_socket) {
  const sigset_t unblocked = block_signals();
  const Store store = given_socket ? nullptr : start_store();
  const std::string socket = given_socket ? *given_socket : plasma_store_socket(store.get());
  const Client client = connect(socket);
  put(client.get(), "digits/images", images);
  put(client.get(), "digits/labels", labels);
  std::cout << "socket: " << socket << std::endl;
  if (store) serve(unblocked);
}

}  // namespace

int main(int count, char** words) try {
  if (count == 3) {
    run(words[1], words[2], std::nullopt);
  } else if (count == 5 && std::string(words[3]) == "--socket") {
    run(words[1], words[2], words[4]);
  } else {
    std::cerr << "usage: " << words[0] << " IMAGES.npy LABELS.npy [--socket PATH]\n";
    return 2;
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << words[0] << ": " << error.what() << "\n";
  return 1;
}
