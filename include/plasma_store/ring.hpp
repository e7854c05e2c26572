//! Rings of recycled buffers: messages from those who fill slots to those who read them, first in, first out.
#ifndef PLASMA_STORE_RING_HPP_
#define PLASMA_STORE_RING_HPP_

#include <plasma_store/client.hpp>
#include <plasma_store/tensor.hpp>

#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace plasma {
inline namespace store_v1 {

/// How a ring is to be. Its messages have one element type and shape, `RingOptions::of<float>(8, {480, 640})`, or each
/// has its own: `RingOptions::of_bytes(8, 1 << 20)`.
struct RingOptions {
  /// How many slots there are, 1 to 65535.
  std::uint32_t slots = 8;
  /// The most bytes of a message; 0 is as many as all have.
  std::uint64_t slot_bytes = 0;
  /// Of all messages; nothing where each has its own.
  std::optional<DType> dtype = std::nullopt;
  Shape shape = {};
  /// Every reader sees every message that is published after its first take.
  bool broadcast = false;
  /// Who finds no free slot takes the oldest message away that nobody reads.
  bool drop_oldest = false;
  /// What a process had taken when it ended is taken by another, and not dropped.
  bool hand_out_again = false;
  /// The ring lives until it is removed, also when nobody takes part.
  bool keep = false;
  /// For debugging: who touches a slot that it does not have is killed.
  bool guard = false;
  /// How long an acquire or put waits that does not say so itself.
  Timeout acquire = forever;
  /// As in CreateOptions.
  std::string name = {};

  /// Messages of one element type and shape.
  static RingOptions of(std::uint32_t slots, DType dtype, Shape shape) {
    RingOptions options;
    options.slots = slots;
    options.dtype = dtype;
    options.shape = std::move(shape);
    return options;
  }
  template <class T>
  static RingOptions of(std::uint32_t slots, Shape shape) {
    return of(slots, dtype_of<T>::value, std::move(shape));
  }
  /// Messages of so many bytes at most, each of its own element type and shape.
  static RingOptions of_bytes(std::uint32_t slots, std::uint64_t slot_bytes) {
    RingOptions options;
    options.slots = slots;
    options.slot_bytes = slot_bytes;
    return options;
  }
};

/// Slots that are free, and messages that nobody has taken.
struct RingCounts {
  std::size_t free = 0;
  std::size_t published = 0;
};

namespace detail {

/// Good as long as the options are.
inline tensor_ring_options ring_options(const RingOptions& options, const DLTensor* like) {
  auto made = sized<tensor_ring_options>();
  made.slots = options.slots;
  made.slot_bytes = options.slot_bytes;
  made.like = like;
  if (options.broadcast) made.flags |= TENSOR_RING_BROADCAST;
  if (options.drop_oldest) made.flags |= TENSOR_RING_DROP_OLDEST;
  if (options.hand_out_again) made.flags |= TENSOR_RING_HAND_OUT_AGAIN;
  if (options.keep) made.flags |= TENSOR_RING_KEEP;
  if (options.guard) made.flags |= TENSOR_RING_GUARD;
  made.acquire_ms = options.acquire.milliseconds();
  if (!options.name.empty()) made.name = options.name.c_str();
  return made;
}

/// A slot that is given back by itself, with a hold on the ring.
template <plasma_status (*GiveBack)(tensor_ring*, const tensor_ring_slot*)>
class HeldSlot {
 public:
  /// Holds nothing.
  HeldSlot() noexcept = default;
  HeldSlot(std::shared_ptr<tensor_ring> ring, const tensor_ring_slot& slot) noexcept
      : ring_(std::move(ring)), slot_(slot) {}
  HeldSlot(HeldSlot&& other) noexcept : ring_(std::move(other.ring_)), slot_(std::exchange(other.slot_, {})) {}
  HeldSlot& operator=(HeldSlot&& other) noexcept {
    if (this == &other) return *this;
    let_go();
    ring_ = std::move(other.ring_);
    slot_ = std::exchange(other.slot_, {});
    return *this;
  }
  ~HeldSlot() { let_go(); }

  explicit operator bool() const noexcept { return ring_ != nullptr; }
  const tensor_ring_slot& slot() const noexcept { return slot_; }

  /// What C tells of it: element type, shape and place.
  Result<tensor_description> try_describe() const {
    auto about = sized<tensor_description>();
    return outcome(tensor_ring_message(ring_.get(), &slot_, &about), "tensor_ring_message", about);
  }
  tensor_description describe() const { return try_describe().value(); }
  DType dtype() const { return describe().dtype; }
  Shape shape() const {
    const tensor_description about = describe();
    return Shape(about.shape, about.shape + about.ndim);
  }

  /// For a library that takes DLPack. The slot cannot be published or given back before that is deleted; one that ends
  /// by itself before is free when that is deleted and the ring was left.
  Result<ManagedTensor> try_to_dlpack() const {
    const auto make = [&](DLManagedTensor** out) { return tensor_ring_export(ring_.get(), &slot_, out); };
    return managed<DLManagedTensor>("tensor_ring_export", make);
  }
  ManagedTensor to_dlpack() const { return try_to_dlpack().value(); }
#ifdef DLPACK_MAJOR_VERSION
  /// The same with the struct of DLPack 1.x, whose flags say that a message is read-only.
  Result<ManagedTensorVersioned> try_to_dlpack_versioned() const {
    const auto make = [&](DLManagedTensorVersioned** out) {
      return tensor_ring_export_versioned(ring_.get(), &slot_, out);
    };
    return managed<DLManagedTensorVersioned>("tensor_ring_export_versioned", make);
  }
  ManagedTensorVersioned to_dlpack_versioned() const { return try_to_dlpack_versioned().value(); }
#endif

 protected:
  /// Gives it back now.
  Result<void> give_back(const char* call) {
    const plasma_status status = GiveBack(ring_.get(), &slot_);
    return ended(status, status == PLASMA_OK, call);
  }

  /// What a call comes to that has given it back, or not.
  Result<void> ended(plasma_status status, bool is_over, const char* call) {
    auto came_to = outcome(status, call);
    if (is_over) ring_.reset();
    return came_to;
  }

  /// All elements, which lie row-major.
  template <class T>
  Result<span<T>> elements(const char* call) const {
    auto about = try_describe();
    if (!about) return about.error();
    const DType its = about->dtype, wanted = dtype_of<std::remove_const_t<T>>::value;
    if (its != wanted) {
      return Error(Status::invalid_argument, call, "elements are " + its.name() + ", not " + wanted.name());
    }
    const auto count = element_count({about->shape, static_cast<std::size_t>(about->ndim)});
    return span<T>(reinterpret_cast<T*>(about->data), static_cast<std::size_t>(count.value_or(0)));
  }

  tensor_ring* ring() const noexcept { return ring_.get(); }

 private:
  void let_go() noexcept {
    // What is still exported is given back when the ring is left.
    if (ring_ != nullptr) GiveBack(ring_.get(), &slot_);
    ring_.reset();
  }

  std::shared_ptr<tensor_ring> ring_;
  tensor_ring_slot slot_{};
};

}  // namespace detail

/// A slot to fill, in place. It is abandoned when it ends without being published.
class Slot : public detail::HeldSlot<tensor_ring_abandon> {
 public:
  using HeldSlot::HeldSlot;

  /// All elements, of a ring whose messages have one element type and shape.
  template <class T>
  Result<span<T>> try_values() const&& = delete;
  template <class T>
  Result<span<T>> try_values() const& {
    return elements<T>("plasma::Slot::values");
  }
  template <class T>
  span<T> values() const&& = delete;
  template <class T>
  span<T> values() const& {
    return try_values<T>().value();
  }

  /// As many elements as there is room for, of any ring.
  template <class T = std::uint8_t>
  span<T> room() const&& = delete;
  template <class T = std::uint8_t>
  span<T> room() const& noexcept {
    static_assert(std::is_trivially_copyable_v<T>, "elements are plain bits");
    return {static_cast<T*>(slot().data), *this ? static_cast<std::size_t>(slot().size) / sizeof(T) : 0};
  }

  /// Publishes what was written. When that fails it is still there, but with `closed`, `aborted` and `corrupt`.
  Result<void> try_publish() { return try_publish(nullptr); }
  void publish() { try_publish().value(); }

  /// The same with an element type and a shape of its own.
  Result<void> try_publish(DType dtype, Shape shape) {
    TensorView message(nullptr, dtype, std::move(shape));
    const DLTensor tensor = message.dlpack();
    return try_publish(&tensor);
  }
  void publish(DType dtype, Shape shape) { try_publish(dtype, std::move(shape)).value(); }
  template <class T>
  Result<void> try_publish(Shape shape) {
    return try_publish(dtype_of<T>::value, std::move(shape));
  }
  template <class T>
  void publish(Shape shape) {
    try_publish<T>(std::move(shape)).value();
  }

  /// Gives it up now.
  Result<void> try_abandon() { return give_back("tensor_ring_abandon"); }
  void abandon() { try_abandon().value(); }

 private:
  Result<void> try_publish(const DLTensor* message) {
    const plasma_status status = tensor_ring_publish(ring(), &slot(), message);
    const bool is_over = status == PLASMA_OK || status == PLASMA_CLOSED || status == PLASMA_ABORTED || status == PLASMA_CORRUPT;
    return ended(status, is_over, "tensor_ring_publish");
  }
};

/// A message to read where it lies. It is released when it ends.
class Message : public detail::HeldSlot<tensor_ring_release> {
 public:
  using HeldSlot::HeldSlot;

  /// All elements, which lie row-major.
  template <class T>
  Result<span<const T>> try_values() const&& = delete;
  template <class T>
  Result<span<const T>> try_values() const& {
    return elements<const T>("plasma::Message::values");
  }
  template <class T>
  span<const T> values() const&& = delete;
  template <class T>
  span<const T> values() const& {
    return try_values<T>().value();
  }
  /// The bytes of all elements, of any type.
  span<const std::uint8_t> bytes() const&& = delete;
  span<const std::uint8_t> bytes() const& noexcept {
    return {static_cast<const std::uint8_t*>(slot().data), *this ? static_cast<std::size_t>(slot().size) : 0};
  }

  /// Gives it back now.
  Result<void> try_release() { return give_back("tensor_ring_release"); }
  void release() { try_release().value(); }
};

/// A ring that this process takes part in; threads may share it. Slots and messages keep it.
///
///     auto ring = plasma::Ring::create(client, id, plasma::RingOptions::of<float>(8, {480, 640}));
///     auto slot = ring.acquire();                    // in another process, with Ring::open(client, id):
///     fill(slot.values<float>());                    // for (const plasma::Message& message : ring)
///     slot.publish();                                //   read(message.values<float>());
class Ring {
 public:
  /// Takes one message after the other, until the ring is closed and drained. Each is released when the next is asked
  /// for. Any other end is thrown.
  class iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Message;
    using difference_type = std::ptrdiff_t;
    using pointer = const Message*;
    using reference = const Message&;

    iterator() = default;
    explicit iterator(const Ring* ring) : ring_(ring) { ++*this; }

    reference operator*() const noexcept { return message_; }
    pointer operator->() const noexcept { return &message_; }
    iterator& operator++() {
      message_ = Message();
      auto next = ring_->try_take();
      if (next.status() != Status::closed) message_ = std::move(next).value();
      return *this;
    }
    void operator++(int) { ++*this; }
    /// All that is to be known: whether both are at the end.
    friend bool operator==(const iterator& a, const iterator& b) noexcept {
      return static_cast<bool>(a.message_) == static_cast<bool>(b.message_);
    }
    friend bool operator!=(const iterator& a, const iterator& b) noexcept { return !(a == b); }

   private:
    const Ring* ring_ = nullptr;
    Message message_;
  };

  /// Holds nothing.
  Ring() noexcept = default;
  /// Takes over a C handle.
  explicit Ring(tensor_ring* handle) : handle_(handle, detail::Release()) {}

  /// Makes a ring and takes part in it.
  static Result<Ring> try_create(const Client& client, const ObjectId& id, const RingOptions& options) {
    const char* const call = "tensor_ring_create";
    if (auto text = detail::check_text(options.name, call, "name"); !text) return text.error();
    TensorView like(nullptr, options.dtype.value_or(DType()), options.shape);
    const DLTensor tensor = like.dlpack();
    const auto wanted = detail::ring_options(options, options.dtype ? &tensor : nullptr);
    tensor_ring* ring = nullptr;
    const plasma_status status = tensor_ring_create(client.handle(), id.raw(), &wanted, &ring);
    if (status != PLASMA_OK) return Error::last(status, call);
    return Ring(ring);
  }
  static Ring create(const Client& client, const ObjectId& id, const RingOptions& options) {
    return try_create(client, id, options).value();
  }

  /// Takes part in a ring that is there, or will be in time.
  static Result<Ring> try_open(const Client& client, const ObjectId& id, Timeout timeout = forever) {
    tensor_ring* ring = nullptr;
    const plasma_status status = tensor_ring_open(client.handle(), id.raw(), timeout.milliseconds(), &ring);
    if (status != PLASMA_OK) return Error::last(status, "tensor_ring_open");
    return Ring(ring);
  }
  static Ring open(const Client& client, const ObjectId& id, Timeout timeout = forever) {
    return try_open(client, id, timeout).value();
  }

  explicit operator bool() const noexcept { return handle_ != nullptr; }
  tensor_ring* handle() const noexcept { return handle_.get(); }

  Result<ObjectId> try_id() const {
    plasma_object_id id{};
    const plasma_status status = tensor_ring_id(handle(), &id);
    if (status != PLASMA_OK) return Error::last(status, "tensor_ring_id");
    return ObjectId(id);
  }
  ObjectId id() const { return try_id().value(); }

  /// Element type and shape of all messages; an error where each has its own.
  Result<tensor_description> try_describe() const {
    auto about = detail::sized<tensor_description>();
    return detail::outcome(tensor_ring_describe(handle(), &about), "tensor_ring_describe", about);
  }
  tensor_description describe() const { return try_describe().value(); }
  DType dtype() const { return describe().dtype; }
  Shape shape() const {
    const tensor_description about = describe();
    return Shape(about.shape, about.shape + about.ndim);
  }

  /// How it was made, also by others: as RingOptions say, but for their name, `keep`, type and shape.
  Result<RingOptions> try_options() const {
    auto info = detail::sized<tensor_ring_info>();
    const plasma_status status = tensor_ring_get_info(handle(), &info);
    if (status != PLASMA_OK) return Error::last(status, "tensor_ring_get_info");
    RingOptions options = RingOptions::of_bytes(info.slots, info.slot_bytes);
    options.broadcast = (info.flags & TENSOR_RING_BROADCAST) != 0;
    options.drop_oldest = (info.flags & TENSOR_RING_DROP_OLDEST) != 0;
    options.hand_out_again = (info.flags & TENSOR_RING_HAND_OUT_AGAIN) != 0;
    options.guard = (info.flags & TENSOR_RING_GUARD) != 0;
    if (info.acquire_ms >= 0) options.acquire = std::chrono::milliseconds(info.acquire_ms);
    return options;
  }
  RingOptions options() const { return try_options().value(); }

  /// A free slot to fill. Without a timeout it waits as was said when the ring was made.
  Result<Slot> try_acquire(std::optional<Timeout> timeout = std::nullopt) const {
    tensor_ring_slot slot{};
    const plasma_status status = tensor_ring_acquire(handle(), milliseconds(timeout), &slot);
    if (status != PLASMA_OK) return Error::last(status, "tensor_ring_acquire");
    return Slot(handle_, slot);
  }
  Slot acquire(std::optional<Timeout> timeout = std::nullopt) const { return try_acquire(timeout).value(); }

  /// The next message; `closed` when the ring is closed and drained.
  Result<Message> try_take(Timeout timeout = forever) const {
    tensor_ring_slot slot{};
    const plasma_status status = tensor_ring_take(handle(), timeout.milliseconds(), &slot);
    if (status != PLASMA_OK) return Error::last(status, "tensor_ring_take");
    return Message(handle_, slot);
  }
  Message take(Timeout timeout = forever) const { return try_take(timeout).value(); }

  iterator begin() const { return iterator(this); }
  iterator end() const noexcept { return iterator(); }

  /// Publishes a copy of any CPU tensor.
  Result<void> try_put(const DLTensor& tensor, std::optional<Timeout> timeout = std::nullopt) const {
    return detail::outcome(tensor_ring_put(handle(), &tensor, milliseconds(timeout)), "tensor_ring_put");
  }
  void put(const DLTensor& tensor, std::optional<Timeout> timeout = std::nullopt) const {
    try_put(tensor, timeout).value();
  }
  Result<void> try_put(TensorView tensor, std::optional<Timeout> timeout = std::nullopt) const {
    if (auto fits = tensor.check(); !fits) return fits;
    return try_put(tensor.dlpack(), timeout);
  }
  void put(TensorView tensor, std::optional<Timeout> timeout = std::nullopt) const {
    try_put(std::move(tensor), timeout).value();
  }
  /// A container's elements, as a message of the ring's shape.
  template <class Container, class = detail::ElementOf<const Container>>
  Result<void> try_put(const Container& values, std::optional<Timeout> timeout = std::nullopt) const {
    auto about = try_describe();
    if (!about) return about.error();
    return try_put(TensorView(values, Shape(about->shape, about->shape + about->ndim)), timeout);
  }
  template <class Container, class = detail::ElementOf<const Container>>
  void put(const Container& values, std::optional<Timeout> timeout = std::nullopt) const {
    try_put(values, timeout).value();
  }

  /// Publishes copies of messages of the ring's type and shape that lie one behind the other, and tells how many; fewer
  /// where time or the ring ended after some. The timeout is for each wait.
  template <class Container, class T = std::remove_cv_t<detail::ElementOf<const Container>>>
  Result<std::size_t> try_put_many(const Container& values, std::optional<Timeout> timeout = std::nullopt) const {
    const char* const call = "tensor_ring_put_many";
    auto count = messages_in<T>(std::size(values), call);
    if (!count) return count;
    std::size_t done = 0;
    return some(tensor_ring_put_many(handle(), std::data(values), *count, milliseconds(timeout), &done), done, call);
  }
  template <class Container, class = detail::ElementOf<const Container>>
  std::size_t put_many(const Container& values, std::optional<Timeout> timeout = std::nullopt) const {
    return try_put_many(values, timeout).value();
  }

  /// Takes copies of as many messages as fit: waits for the first, and takes with it what is there. Tells how many.
  template <class Container, class T = detail::ElementOf<Container>>
  Result<std::size_t> try_take_many(Container&& values, Timeout timeout = forever) const {
    static_assert(!std::is_const_v<T>, "messages are copied to the values");
    const char* const call = "tensor_ring_take_many";
    auto count = messages_in<T>(std::size(values), call);
    if (!count) return count;
    std::size_t done = 0;
    return some(tensor_ring_take_many(handle(), std::data(values), *count, timeout.milliseconds(), &done), done, call);
  }
  template <class Container, class = detail::ElementOf<Container>>
  std::size_t take_many(Container&& values, Timeout timeout = forever) const {
    return try_take_many(values, timeout).value();
  }

  /// Nothing is published from now on: readers get what was published before, and then `closed`.
  Result<void> try_close() const { return detail::outcome(tensor_ring_close(handle()), "tensor_ring_close"); }
  void close() const { try_close().value(); }
  /// Everybody stops, with `aborted`.
  Result<void> try_abort() const { return detail::outcome(tensor_ring_abort(handle()), "tensor_ring_abort"); }
  void abort() const { try_abort().value(); }
  /// Lets go of it. The ring goes on for others, and for the slots and messages of this process.
  void leave() noexcept { handle_.reset(); }

  Result<RingCounts> try_counts() const {
    RingCounts counts;
    return detail::outcome(tensor_ring_counts(handle(), &counts.free, &counts.published), "tensor_ring_counts", counts);
  }
  RingCounts counts() const { return try_counts().value(); }

  /// A descriptor that can be read when a take is worth a try; it belongs to the ring. Take without waiting until that
  /// says `timeout`.
  Result<int> try_fd() const {
    std::int32_t fd = -1;
    const plasma_status status = tensor_ring_fd(handle(), &fd);
    if (status != PLASMA_OK) return Error::last(status, "tensor_ring_fd");
    return static_cast<int>(fd);
  }
  int fd() const { return try_fd().value(); }

 private:
  static std::int64_t milliseconds(const std::optional<Timeout>& timeout) noexcept {
    return timeout ? timeout->milliseconds() : TENSOR_RING_AS_CREATED;
  }

  /// By reference, so that the call may stand among the arguments.
  static Result<std::size_t> some(plasma_status status, const std::size_t& done, const char* call) {
    if (status != PLASMA_OK && done == 0) return Error::last(status, call);
    return done;
  }

  /// How many messages so many elements are.
  template <class T>
  Result<std::size_t> messages_in(std::size_t elements, const char* call) const {
    auto about = try_describe();
    if (!about) return about.error();
    const DType its = about->dtype, given = dtype_of<T>::value;
    if (its != given) {
      return Error(Status::invalid_argument, call, "elements are " + given.name() + ", not " + its.name());
    }
    const auto each = element_count({about->shape, static_cast<std::size_t>(about->ndim)}).value_or(0);
    const auto size = static_cast<std::size_t>(each);
    if (size != 0 && elements % size == 0) return elements / size;
    return Error(Status::invalid_argument, call,
                 std::to_string(elements) + " elements for messages of " + std::to_string(size));
  }

  std::shared_ptr<tensor_ring> handle_;
};

}  // namespace store_v1
}  // namespace plasma

#endif  // PLASMA_STORE_RING_HPP_
