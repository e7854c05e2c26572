//! Shared tensors and rings, in the program of faces.cpp.
#include "check.hpp"

#include <poll.h>

#include <atomic>
#include <numeric>
#include <thread>

namespace {

using namespace std::chrono_literals;
using plasma::Client;
using plasma::Message;
using plasma::ObjectId;
using plasma::Ring;
using plasma::RingOptions;
using plasma::SharedLock;
using plasma::SharedTensor;
using plasma::Slot;
using plasma::Status;

static_assert(!std::is_copy_constructible_v<Slot> && std::is_nothrow_move_constructible_v<Slot>);
static_assert(!std::is_copy_constructible_v<Message> && std::is_nothrow_move_assignable_v<Message>);
static_assert(!std::is_copy_constructible_v<SharedLock> && std::is_nothrow_move_assignable_v<SharedLock>);

// Whether values can be had: not of a slot that is given back at the end of the line.
template <class Held, class = void>
constexpr bool gives_values = false;
template <class Held>
constexpr bool gives_values<Held, std::void_t<decltype(std::declval<Held>().template values<float>())>> = true;
static_assert(gives_values<Slot&> && gives_values<const Message&> && !gives_values<Slot> && !gives_values<Message>);

const std::vector<std::int64_t> kNumbers{1, 2, 3, 4, 5, 6};

bool counts_are(const Ring& ring, std::size_t free, std::size_t published) {
  const plasma::RingCounts counts = ring.counts();
  return counts.free == free && counts.published == published;
}

// The element of the next message.
std::int64_t taken(const Ring& ring, std::size_t index, plasma::Timeout timeout = 0ms) {
  const Message message = ring.take(timeout);
  return message.values<std::int64_t>()[index];
}

// Filled in place and read in place; both give their slot back by themselves.
void slots_go_round(const Client& client) {
  const ObjectId id = ObjectId::from_name("slots");
  auto options = RingOptions::of<std::int64_t>(2, {2, 3});
  options.name = "slots";
  const Ring ring = Ring::create(client, id, options);
  CHECK(ring && ring.id() == id && ring.shape() == plasma::Shape{2, 3});
  CHECK(ring.dtype() == plasma::dtype_of<std::int64_t>::value && counts_are(ring, 2, 0));
  for (int round = 0; round < 5; round++) {
    Slot slot = ring.acquire();
    const auto values = slot.values<std::int64_t>();
    std::iota(values.begin(), values.end(), round);
    CHECK(values.size() == 6 && slot.room<std::int64_t>().size() == 6 && slot.shape() == ring.shape());
    slot.publish();
    CHECK(!slot && counts_are(ring, 1, 1));
    Message message = ring.take(0ms);
    CHECK(message.values<std::int64_t>()[5] == round + 5 && message.bytes().size() == 48);
    CHECK(message.dtype() == ring.dtype() && counts_are(ring, 1, 0));
    if (round == 3) message.release();
  }
  CHECK(counts_are(ring, 2, 0));
  ring.acquire();
  CHECK(counts_are(ring, 2, 0));
}

void slots_are_moved_and_kept(const Client& client) {
  Ring ring = Ring::create(client, ObjectId::random(), RingOptions::of<std::int64_t>(2, {6}));
  const Ring copy = ring;
  Slot first = ring.acquire(), second = ring.acquire(1s);
  CHECK(thrown([&] { ring.acquire(plasma::forever); }) == Status::busy);
  first = std::move(second);
  CHECK(first && !second && counts_are(ring, 1, 0));
  CHECK(second.try_publish().status() == Status::invalid_argument && second.room().empty());
  first.values<std::int64_t>()[0] = 7;
  first.publish();
  Message message = ring.take();
  ring.leave();
  CHECK(!ring && ring.try_acquire().status() == Status::invalid_argument);
  CHECK(message.values<std::int64_t>()[0] == 7 && counts_are(copy, 1, 0));
  Message another = std::move(message);
  another = Message();
  CHECK(counts_are(copy, 2, 0) && !message && message.bytes().empty() && !message.try_release());
  CHECK(Ring().try_id().status() == Status::invalid_argument && Ring().handle() == nullptr);
}

void exported_slots(const Client& client) {
  const Ring ring = Ring::create(client, ObjectId::random(), RingOptions::of<std::int64_t>(2, {6}));
  Slot slot = ring.acquire();
  plasma::ManagedTensor tensor = slot.to_dlpack();
  static_cast<std::int64_t*>(tensor->dl_tensor.data)[0] = 8;
  CHECK(slot.try_publish().status() == Status::busy && slot.try_abandon().status() == Status::busy && slot);
  tensor.reset();
  slot.publish();
  Message message = ring.take();
  plasma::ManagedTensorVersioned read = message.to_dlpack_versioned();
  CHECK(read->flags == DLPACK_FLAG_BITMASK_READ_ONLY && message.try_release().status() == Status::busy);
  read.reset();
  CHECK(message.values<std::int64_t>()[0] == 8 && message.try_release());
}

// What does not fit is told and not published.
void messages_that_do_not_fit(const Client& client) {
  const Ring ring = Ring::create(client, ObjectId::random(), RingOptions::of<std::int64_t>(2, {6}));
  Slot slot = ring.acquire();
  const auto floats = slot.try_values<double>();
  CHECK(!floats && contains(floats.error().what(), "elements are int64, not float64"));
  CHECK(slot.try_publish<double>({6}).status() == Status::invalid_argument && slot);
  slot.publish<std::int64_t>({6});
  CHECK(ring.take().try_release());
  CHECK(ring.try_put(std::vector<double>(6)).status() == Status::invalid_argument);
  CHECK(ring.try_put(std::vector<std::int64_t>(5)).status() == Status::invalid_argument);
  CHECK(ring.try_put({kNumbers, {5}}).status() == Status::invalid_argument);
  const auto many = ring.try_put_many(std::vector<std::int64_t>(7));
  CHECK(!many && contains(many.error().what(), "7 elements for messages of 6"));
  std::vector<float> floating(6);
  CHECK(ring.try_take_many(floating).status() == Status::invalid_argument);
  CHECK(ring.try_take(0ms).status() == Status::timeout && counts_are(ring, 2, 0));
}

// Who opens a ring learns what was chosen.
void how_it_was_made(const Client& client, const Client& other) {
  const ObjectId id = ObjectId::random();
  auto options = RingOptions::of<std::int64_t>(3, {6});
  options.acquire = 1500ms;
  options.drop_oldest = options.hand_out_again = options.guard = true;
  const Ring ring = Ring::create(client, id, options);
  const RingOptions told = Ring::open(other, id).options();
  CHECK(told.slots == 3 && told.slot_bytes == 48 && told.acquire.milliseconds() == 1500);
  CHECK(told.drop_oldest && told.hand_out_again && told.guard && !told.broadcast);
  options = RingOptions::of_bytes(2, 100);
  options.broadcast = true;
  const RingOptions another = Ring::create(client, ObjectId::random(), options).options();
  CHECK(another.broadcast && !another.hand_out_again && another.acquire.milliseconds() == -1);
  CHECK(Ring().try_options().status() == Status::invalid_argument);
}

void rings_that_cannot_be(const Client& client) {
  const ObjectId id = ObjectId::random();
  CHECK(Ring::try_create(client, id, RingOptions::of<float>(0, {1})).status() == Status::invalid_argument);
  CHECK(Ring::try_create(client, id, RingOptions::of<float>(2, {-1})).status() == Status::invalid_argument);
  CHECK(Ring::try_create(client, id, {}).status() == Status::invalid_argument);
  RingOptions options = RingOptions::of_bytes(2, 100);
  options.name = std::string("a\0b", 3);
  CHECK(Ring::try_create(client, id, options).status() == Status::invalid_argument);
  options.name = "another";
  CHECK(Ring::try_create(client, id, options).status() == Status::invalid_argument);
  CHECK(Ring::try_open(client, id, 0ms).status() == Status::object_not_found);
  const SharedTensor shared = SharedTensor::create<float>(client, id, {100, 100});
  CHECK(thrown([&] { Ring::open(client, id); }) == Status::corrupt);
}

// Each message says what it is.
void each_its_own(const Client& client) {
  const Ring ring = Ring::create(client, ObjectId::random(), RingOptions::of_bytes(4, 100));
  CHECK(ring.try_describe().status() == Status::invalid_argument);
  Slot slot = ring.acquire();
  CHECK(slot.room().size() == 100 && slot.room<float>().size() == 25);
  CHECK(slot.try_publish().status() == Status::invalid_argument);
  CHECK(slot.try_publish<float>({26}).status() == Status::invalid_argument);
  slot.room<float>()[5] = 0.5F;
  slot.publish<float>({3, 2});
  ring.put({kNumbers, {2, 3}}, 0ms);
  CHECK(ring.try_put(kNumbers).status() == Status::invalid_argument);
  const Message first = ring.take(), second = ring.take();
  CHECK(first.shape() == plasma::Shape({3, 2}) && first.values<float>()[5] == 0.5F && first.bytes().size() == 24);
  CHECK(second.shape() == plasma::Shape({2, 3}) && second.values<std::int64_t>()[5] == 6);
  CHECK(first.try_values<double>().status() == Status::invalid_argument);
}

// Two threads, of which one closes; the other's loop ends by itself.
void passed_and_closed(const Client& client, const std::string& socket) {
  const ObjectId id = ObjectId::random();
  std::int64_t sum = 0, count = 0;
  std::thread reader([&] {
    const Client mine = Client::connect(socket);
    const Ring ring = Ring::open(mine, id);
    for (const Message& message : ring) {
      const auto values = message.values<std::int64_t>();
      sum = std::accumulate(values.begin(), values.end(), sum);
      count++;
    }
    CHECK(ring.begin() == ring.end() && ring.try_take().status() == Status::closed);
  });
  const Ring ring = Ring::create(client, id, RingOptions::of<std::int64_t>(3, {6}));
  for (int i = 0; i < 100; i++) ring.put(kNumbers);
  std::vector<std::int64_t> many;
  for (int i = 0; i < 100; i++) many.insert(many.end(), kNumbers.begin(), kNumbers.end());
  CHECK(ring.put_many(many) == 100);
  ring.close();
  reader.join();
  CHECK(count == 200 && sum == 200 * 21);
  CHECK(ring.try_put(kNumbers).status() == Status::closed && ring.try_put_many(many).status() == Status::closed);
}

// Full rings: fail, wait, drop.
void full(const Client& client) {
  auto options = RingOptions::of<std::int64_t>(2, {6});
  options.acquire = 0ms;
  const Ring fails = Ring::create(client, ObjectId::random(), options);
  CHECK(fails.put_many(std::vector<std::int64_t>(3 * 6)) == 2);
  CHECK(fails.try_put(kNumbers).status() == Status::timeout && fails.try_acquire(1ms).status() == Status::timeout);
  std::vector<std::int64_t> values(4 * 6, 9);
  CHECK(fails.take_many(values) == 2 && values[11] == 0 && values[12] == 9 && counts_are(fails, 2, 0));
  CHECK(fails.try_take_many(plasma::span<std::int64_t>(values), 0ms).status() == Status::timeout);

  options.drop_oldest = true;
  const Ring drops = Ring::create(client, ObjectId::random(), options);
  for (std::int64_t i = 0; i < 10; i++) drops.put(std::vector<std::int64_t>(6, i));
  CHECK(taken(drops, 0) == 8 && taken(drops, 0) == 9);
  drops.abort();
  CHECK(drops.try_take().status() == Status::aborted && thrown([&] { drops.put(kNumbers); }) == Status::aborted);
  CHECK(thrown([&] { drops.begin(); }) == Status::aborted);
}

// A call in another thread comes to this status when something is done again and again.
template <class Call, class Act>
void ends_by(Status status, Call call, Act act) {
  std::atomic<bool> done = false;
  std::thread waiting([&] {
    CHECK(call() == status);
    done = true;
  });
  while (!done) {
    act();
    std::this_thread::sleep_for(1ms);
  }
  waiting.join();
}

// Whoever waits is told of interrupts, and of the end.
void waits_end(const Client& client, const Client& other) {
  const Ring ring = Ring::create(client, ObjectId::random(), RingOptions::of<std::int64_t>(2, {6}));
  const Ring again = Ring::open(other, ring.id());
  const auto interrupt = [&] { client.interrupt(); };
  std::vector<std::int64_t> room(12);
  ends_by(Status::interrupted, [&] { return ring.try_take().status(); }, interrupt);
  ends_by(Status::interrupted, [&] { return ring.try_take_many(room).status(); }, interrupt);
  ends_by(Status::interrupted, [&] { return Ring::try_open(client, ObjectId::random()).status(); }, interrupt);
  CHECK(again.put_many(room) == 2);
  ends_by(Status::interrupted, [&] { return ring.try_acquire().status(); }, interrupt);
  ends_by(Status::interrupted, [&] { return ring.try_put(kNumbers).status(); }, interrupt);
  ends_by(Status::closed, [&] { return ring.try_put(kNumbers).status(); }, [&] { again.close(); });
  const Ring aborted = Ring::create(client, ObjectId::random(), RingOptions::of<std::int64_t>(2, {6}));
  ends_by(Status::aborted, [&] { return aborted.try_take().status(); }, [&] { aborted.abort(); });
  const SharedTensor shared = SharedTensor::create<float>(client, ObjectId::random(), {4});
  const SharedTensor held = SharedTensor::open(other, shared.id());
  const SharedLock lock = held.lock();
  ends_by(Status::interrupted, [&] { return shared.try_lock(1min).status(); }, interrupt);
  ends_by(Status::interrupted, [&] { return shared.try_snapshot<float>().status(); }, interrupt);
  ends_by(Status::interrupted, [&] { return shared.try_freeze(plasma::forever).status(); }, interrupt);
  ends_by(Status::interrupted, [&] { return SharedTensor::try_open(client, ObjectId::random()).status(); }, interrupt);
}

// What is kept is there when nobody was; it is waited for before it is there.
void kept(const Client& client, const Client& other) {
  const ObjectId ring = ObjectId::random(), shared = ObjectId::random();
  std::thread reader([&] {
    CHECK(taken(Ring::open(other, ring, 1min), 5, 1min) == 6);
    CHECK(SharedTensor::open(other, shared, 1min).snapshot<std::int64_t>() == kNumbers);
  });
  auto options = RingOptions::of(2, plasma::dtype_of<std::int64_t>::value, {6});
  options.keep = true;
  Ring::create(client, ring, options).put(kNumbers);
  SharedTensor::create(client, shared, {kNumbers, {6}}, {true, ""});
  reader.join();
  for (const ObjectId& id : {ring, shared}) CHECK(SharedTensor::holders(client, id).empty());
  client.remove({ring, shared});
  CHECK(Ring::try_open(client, ring, 0ms).status() == Status::object_not_found);
  CHECK(SharedTensor::try_open(client, shared, 0ms).status() == Status::object_not_found);
}

// What is made of a DLTensor with columns first stays so in a tensor, and is row-major as a message.
void columns_first(const Client& client) {
  plasma::TensorView view(kNumbers.data(), plasma::dtype_of<std::int64_t>::value, {2, 3}, {1, 2});
  const DLTensor columns = view.dlpack();
  const SharedTensor shared = SharedTensor::create(client, ObjectId::random(), columns);
  CHECK(shared.snapshot<std::int64_t>() == kNumbers && shared.describe().byte_strides[1] == 16);
  const Ring ring = Ring::create(client, ObjectId::random(), RingOptions::of<std::int64_t>(1, {2, 3}));
  ring.put(columns);
  CHECK(taken(ring, 1) == 3);
}

// Every client sees all that comes after its first take.
void seen_by_all(const Client& client, const Client& other) {
  const ObjectId id = ObjectId::random();
  auto options = RingOptions::of<std::int64_t>(4, {6});
  options.broadcast = true;
  const Ring ring = Ring::create(client, id, options), again = Ring::open(other, id);
  CHECK(!ring.try_take(0ms) && !again.try_take(0ms));
  ring.put(kNumbers);
  ring.close();
  for (const Ring* each : {&ring, &again}) {
    CHECK(taken(*each, 2) == 3 && each->try_take().status() == Status::closed);
  }
}

void polled(const Client& client) {
  const Ring ring = Ring::create(client, ObjectId::random(), RingOptions::of<std::int64_t>(4, {6}));
  pollfd ready{ring.fd(), POLLIN, 0};
  CHECK(ring.try_take(0ms).status() == Status::timeout);
  ring.put(kNumbers);
  CHECK(poll(&ready, 1, -1) == 1 && taken(ring, 1) == 2);
}

void shared_and_locked(const Client& client, const Client& other) {
  const ObjectId id = ObjectId::from_name("shared");
  plasma::SharedOptions options;
  options.name = "shared";
  SharedTensor shared = SharedTensor::create(client, id, {kNumbers, {2, 3}}, options);
  const SharedTensor again = SharedTensor::open(other, id);
  CHECK(shared && again.id() == id && again.shape() == plasma::Shape({2, 3}) && again.dtype() == shared.dtype());
  CHECK(SharedTensor::holders(client, id).find('\n') != std::string::npos && shared.version() == 0);
  {
    SharedLock lock = shared.lock(1s);
    CHECK(lock && !lock.owner_died() && again.version() == 1);
    plasma::Tensor tensor = shared.tensor();
    tensor.mutable_values<std::int64_t>()[5] = 60;
    CHECK(shared.views() == 1);
    std::thread([&] { CHECK(again.try_lock(0ms).status() == Status::timeout); }).join();
    SharedLock moved = std::move(lock);
    CHECK(!lock && moved && lock.try_unlock().status() == Status::invalid_argument);
  }
  CHECK(again.version() == 2 && again.snapshot<std::int64_t>() == std::vector<std::int64_t>({1, 2, 3, 4, 5, 60}));
  CHECK(again.try_snapshot<float>().status() == Status::invalid_argument);
  SharedLock lock = again.lock();
  lock.unlock();
  CHECK(!lock && again.version() == 4);
}

// A lock that is assigned to gives the former one back; one keeps its tensor; a copy is frozen while all goes on.
void locks_are_moved_and_kept(const Client& client) {
  SharedTensor first = SharedTensor::create<float>(client, ObjectId::random(), {4});
  const SharedTensor second = SharedTensor::create<float>(client, ObjectId::random(), {4});
  SharedLock lock = first.lock();
  lock = second.lock();
  CHECK(lock && first.version() == 2 && second.version() == 1 && first.try_lock(0ms).status() == Status::ok);
  SharedLock kept = first.lock();
  CHECK(first.try_lock().status() == Status::busy);
  const ObjectId id = first.id(), copied = ObjectId::random();
  first.close();
  CHECK(!first && SharedTensor::open(client, id, 0ms).version() % 2 == 1 && kept.try_unlock());
  CHECK(SharedTensor::try_open(client, id, 0ms).status() == Status::object_not_found);
  client.put_tensor(copied, {second.snapshot<float>(), second.shape()});
  CHECK(client.get_tensor(copied).size() == 4 && second.tensor().size() == 4);
}

// A thread that ends with the lock leaves it to the next one, who is told.
void the_owner_died(const Client& client) {
  const SharedTensor shared = SharedTensor::create<float>(client, ObjectId::random(), {4});
  std::thread([&] { CHECK(tensor_shared_lock(shared.handle(), -1) == PLASMA_OK); }).join();
  SharedLock lock = shared.lock();
  CHECK(lock.owner_died());
  lock.unlock();
  CHECK(!shared.lock().owner_died() && shared.snapshot<float>() == std::vector<float>(4));
}

void frozen(const Client& client, const Client& other) {
  const ObjectId id = ObjectId::random();
  SharedTensor shared = SharedTensor::create<float>(client, id, {4});
  {
    plasma::ManagedTensor exported = shared.to_dlpack();
    const auto versioned = shared.to_dlpack_versioned();
    static_cast<float*>(exported->dl_tensor.data)[3] = 0.5F;
    CHECK(versioned->flags == 0 && shared.try_freeze().status() == Status::busy);
  }
  SharedTensor held = SharedTensor::open(other, id);
  CHECK(thrown([&] { shared.freeze(); }) == Status::busy);
  std::thread leaving([&] { held.close(); });
  shared.freeze(plasma::forever);
  leaving.join();
  CHECK(shared.try_tensor().status() == Status::object_already_sealed && !held);
  const plasma::Tensor sealed = other.get_tensor(id);
  CHECK(sealed.values<float>()[3] == 0.5F && shared.try_lock().status() == Status::object_already_sealed);
  CHECK(SharedTensor::try_open(client, id).status() == Status::object_already_sealed);
  shared.close();
  client.remove(id);
}

void shared_that_cannot_be(const Client& client) {
  const ObjectId id = ObjectId::random();
  CHECK(SharedTensor::try_open(client, id, 0ms).status() == Status::object_not_found);
  CHECK(SharedTensor::try_create<float>(client, id, {-1}).status() == Status::invalid_argument);
  CHECK(SharedTensor::try_create(client, id, {kNumbers, {7}}).status() == Status::invalid_argument);
  CHECK(SharedTensor::try_create<float>(client, id, {1}, {false, "another"}).status() == Status::invalid_argument);
  CHECK(SharedTensor::try_create<float>(client, id, {1}, {false, std::string(1, '\0')}).status() ==
        Status::invalid_argument);
  CHECK(SharedTensor().try_lock().status() == Status::invalid_argument && !SharedTensor().try_snapshot<float>());
  const SharedTensor empty = SharedTensor::create<float>(client, id, {0, 3});
  CHECK(empty.snapshot<float>().empty() && empty.tensor().size() == 0);
  const Ring ring = Ring::create(client, ObjectId::from_name("ring"), RingOptions::of<float>(2, {2}));
  CHECK(SharedTensor::try_open(client, ring.id(), 0ms).status() == Status::corrupt);
}

}  // namespace

void rings_and_shared(const std::string& socket) {
  const Client client = Client::connect(socket), other = Client::connect(socket);
  slots_go_round(client);
  slots_are_moved_and_kept(client);
  exported_slots(client);
  messages_that_do_not_fit(client);
  how_it_was_made(client, other);
  rings_that_cannot_be(client);
  each_its_own(client);
  passed_and_closed(client, socket);
  full(client);
  waits_end(client, other);
  kept(client, other);
  columns_first(client);
  seen_by_all(client, other);
  polled(client);
  shared_and_locked(client, other);
  locks_are_moved_and_kept(client);
  the_owner_died(client);
  frozen(client, other);
  shared_that_cannot_be(client);
}
