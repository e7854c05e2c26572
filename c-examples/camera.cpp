// A camera that films at a fixed rate, whoever watches: its ring drops the oldest frame when a watcher lags.
//
//   camera                        films and watches, in a store that lives in this process and ends with it
//   camera SOCKET film|watch      one half, in the store that listens at SOCKET: start the other half in another
//                                 process, here or with camera.py, before or after
#include <plasma_store.hpp>

#include <algorithm>
#include <chrono>
#include <future>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>

namespace {

using namespace std::chrono_literals;
using plasma::Client;
using plasma::Message;
using plasma::Ring;
using plasma::RingOptions;
using plasma::Slot;
using plasma::Store;

const plasma::ObjectId kCamera = plasma::ObjectId::from_name("camera", "examples");
constexpr std::uint32_t kFrames = 100, kSlots = 4;
constexpr auto kPeriod = 2ms, kWork = 10ms;

// Every pixel of a frame is the frame's number.
void film(const Client& client) {
  client.remove(kCamera);  // what an earlier run left
  auto options = RingOptions::of<std::uint32_t>(kSlots, {48, 64});
  options.drop_oldest = options.keep = true;
  const Ring ring = Ring::create(client, kCamera, options);
  auto next = std::chrono::steady_clock::now();
  for (std::uint32_t number = 0; number < kFrames; number++) {
    std::this_thread::sleep_until(next);
    Slot slot = ring.acquire(0ms);  // there is one: the watcher has a frame at a time
    const auto pixels = slot.values<std::uint32_t>();
    std::fill(pixels.begin(), pixels.end(), number);
    slot.publish();
    next += kPeriod;
  }
  std::cout << "filmed " << kFrames << " frames" << std::endl;
  ring.close();
}

// Looks at each frame for longer than the camera takes for one; what is looked at does not change meanwhile.
void watch(const Client& client) {
  std::uint32_t seen = 0, next = 0;
  const Ring ring = Ring::open(client, kCamera, 30s);
  for (const Message& message : ring) {
    const auto pixels = message.values<std::uint32_t>();
    const std::uint32_t number = pixels[0];
    std::this_thread::sleep_for(kWork);
    if (number < next) throw std::runtime_error("frame " + std::to_string(number) + " is out of order");
    if (std::count(pixels.begin(), pixels.end(), number) != 48 * 64) throw std::runtime_error("a frame is mixed");
    seen++;
    next = number + 1;
  }
  std::cout << "saw " << seen << " frames, missed " << next - seen << ", the last was " << next - 1 << std::endl;
}

void film_and_watch() {
  const Store store = Store::start();
  const Client watcher = Client::connect(store.socket());
  auto camera = std::async(std::launch::async, [&] { film(Client::connect(store.socket())); });
  watch(watcher);
  camera.get();
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string half = argc == 3 ? argv[2] : "";
  if (argc == 1) {
    film_and_watch();
  } else if (half == "film") {
    film(Client::connect(argv[1]));
  } else if (half == "watch") {
    watch(Client::connect(argv[1]));
  } else {
    std::cerr << "usage: " << argv[0] << " [SOCKET film|watch]\n";
    return 2;
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
