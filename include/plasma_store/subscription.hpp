//! Events: what is sealed and what goes, as a stream.
#ifndef PLASMA_STORE_SUBSCRIPTION_HPP_
#define PLASMA_STORE_SUBSCRIPTION_HPP_

#include <plasma_store/values.hpp>

#include <iterator>
#include <memory>
#include <optional>
#include <vector>

namespace plasma {
inline namespace store_v1 {

/// There may be others one day: leave alone what you do not know.
enum class EventKind : std::uint32_t { sealed = PLASMA_EVENT_SEALED, deleted = PLASMA_EVENT_DELETED };

/// What happened to an object; the sizes are those of a sealed one, else 0.
struct Event {
  EventKind kind;
  ObjectId id;
  std::uint64_t data_size;
  std::uint64_t metadata_size;

  static Event from(const plasma_event& event) noexcept {
    return {static_cast<EventKind>(event.kind), event.id, event.data_size, event.metadata_size};
  }
};

class Events;

/// A stream of events. Each is given to one of the threads that ask.
class Subscription {
 public:
  /// Holds nothing.
  Subscription() noexcept = default;
  /// Takes over a C handle.
  explicit Subscription(plasma_subscription* handle) noexcept : handle_(handle) {}

  explicit operator bool() const noexcept { return handle_ != nullptr; }
  plasma_subscription* handle() const noexcept { return handle_.get(); }
  plasma_subscription* release() noexcept { return handle_.release(); }

  /// A descriptor to poll; it belongs to the subscription.
  int fd() const noexcept { return plasma_subscription_fd(handle()); }

  /// The next event.
  Result<Event> try_next(Timeout timeout = forever) const {
    auto event = detail::sized<plasma_event>();
    const plasma_status status = plasma_subscription_next(handle(), timeout.milliseconds(), &event);
    if (status != PLASMA_OK) return Error::last(status, "plasma_subscription_next");
    return Event::from(event);
  }
  Event next(Timeout timeout = forever) const { return try_next(timeout).value(); }

  /// For a range-for: one event after the other, until none comes within `timeout`, or the store ends.
  Events events(Timeout timeout = forever) const& noexcept;
  Events events(Timeout timeout = forever) const&& = delete;

 private:
  std::unique_ptr<plasma_subscription, detail::Release> handle_;
};

/// The events of a subscription as they come. Going on takes the next one, and throws what is neither its time nor the
/// store's end.
class Events {
 public:
  class iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Event;
    using difference_type = std::ptrdiff_t;
    using pointer = const Event*;
    using reference = const Event&;

    iterator() = default;
    explicit iterator(const Events* events) : events_(events) { ++*this; }

    reference operator*() const noexcept { return *event_; }
    pointer operator->() const noexcept { return &*event_; }
    iterator& operator++() {
      event_ = events_->take();
      return *this;
    }
    void operator++(int) { ++*this; }
    /// All that is to be known: whether both are at the end.
    friend bool operator==(const iterator& a, const iterator& b) noexcept {
      return a.event_.has_value() == b.event_.has_value();
    }
    friend bool operator!=(const iterator& a, const iterator& b) noexcept { return !(a == b); }

   private:
    const Events* events_ = nullptr;
    std::optional<Event> event_;
  };

  Events(const Subscription& subscription, Timeout timeout) noexcept
      : subscription_(&subscription), timeout_(timeout) {}

  iterator begin() const { return iterator(this); }
  iterator end() const noexcept { return iterator(); }

 private:
  std::optional<Event> take() const {
    auto next = subscription_->try_next(timeout_);
    if (next.status() == Status::timeout || next.status() == Status::disconnected) return std::nullopt;
    return std::move(next).value();
  }

  const Subscription* subscription_;
  Timeout timeout_;
};

inline Events Subscription::events(Timeout timeout) const& noexcept { return Events(*this, timeout); }

/// The events in one frame that was read from a subscription's descriptor, its length taken off.
inline Result<std::vector<Event>> try_decode_events(BytesView frame) {
  std::size_t count = 0;
  plasma_status status = plasma_decode_events(frame.data(), frame.size(), nullptr, 0, &count);
  std::vector<plasma_event> found(count, detail::sized<plasma_event>());
  if (status == PLASMA_OK && count > 0) {
    status = plasma_decode_events(frame.data(), frame.size(), found.data(), found.size(), &count);
  }
  std::vector<Event> events;
  for (const plasma_event& event : found) events.push_back(Event::from(event));
  return detail::outcome(status, "plasma_decode_events", events);
}
inline std::vector<Event> decode_events(BytesView frame) { return try_decode_events(frame).value(); }

}  // namespace store_v1
}  // namespace plasma

#endif  // PLASMA_STORE_SUBSCRIPTION_HPP_
