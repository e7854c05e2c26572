//! The small values that calls take and give: spans, bytes, times and object ids.
#ifndef PLASMA_STORE_VALUES_HPP_
#define PLASMA_STORE_VALUES_HPP_

#include <plasma_store/result.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <ostream>
#include <string>
#include <string_view>
#include <type_traits>

#if defined(__has_include)
#if __has_include(<version>)
#include <version>
#endif
#endif
#if defined(__cpp_lib_ranges)
#include <ranges>
#endif

namespace plasma {
inline namespace store_v1 {
namespace detail {

/// What a container in one piece has: the type of its elements, const as it is there.
template <class Container>
using ElementOf = std::remove_pointer_t<decltype(std::data(std::declval<Container&>()))>;

template <class Container, class T>
using IfHolds = std::enable_if_t<std::is_convertible_v<ElementOf<Container> (*)[], T (*)[]> &&
                                 std::is_convertible_v<decltype(std::size(std::declval<Container&>())), std::size_t>>;

template <class Container>
using IfCopyable = std::enable_if_t<std::is_trivially_copyable_v<ElementOf<Container>> &&
                                    !std::is_convertible_v<Container&, std::string_view>>;

/// Gives a Value for each index of a list.
template <class List, class Value>
class IndexIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = Value;
  using difference_type = std::ptrdiff_t;
  using pointer = void;
  using reference = Value;

  IndexIterator() = default;
  IndexIterator(const List* list, std::size_t index) noexcept : list_(list), index_(index) {}

  Value operator*() const { return list_->at(index_); }
  IndexIterator& operator++() noexcept {
    index_++;
    return *this;
  }
  IndexIterator operator++(int) noexcept { return {list_, index_++}; }
  friend bool operator==(const IndexIterator& a, const IndexIterator& b) noexcept { return a.index_ == b.index_; }
  friend bool operator!=(const IndexIterator& a, const IndexIterator& b) noexcept { return a.index_ != b.index_; }

 private:
  const List* list_ = nullptr;
  std::size_t index_ = 0;
};

}  // namespace detail

/// Elements that lie one after the other and belong to somebody else.
template <class T>
class span {
 public:
  using element_type = T;
  using value_type = std::remove_cv_t<T>;
  using size_type = std::size_t;
  using difference_type = std::ptrdiff_t;
  using pointer = T*;
  using reference = T&;
  using iterator = T*;

  constexpr span() noexcept = default;
  constexpr span(T* data, std::size_t size) noexcept : data_(data), size_(size) {}
  template <class Container, class = detail::IfHolds<Container, T>>
  constexpr span(Container&& container) noexcept : span(std::data(container), std::size(container)) {}

  constexpr T* data() const noexcept { return data_; }
  constexpr std::size_t size() const noexcept { return size_; }
  constexpr std::size_t size_bytes() const noexcept { return size_ * sizeof(T); }
  constexpr bool empty() const noexcept { return size_ == 0; }
  constexpr T* begin() const noexcept { return data_; }
  constexpr T* end() const noexcept { return data_ + size_; }
  constexpr T& operator[](std::size_t index) const noexcept { return data_[index]; }
  constexpr T& front() const noexcept { return data_[0]; }
  constexpr T& back() const noexcept { return data_[size_ - 1]; }
  constexpr span first(std::size_t count) const noexcept { return span(data_, count); }
  constexpr span subspan(std::size_t from, std::size_t count) const noexcept { return span(data_ + from, count); }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Bytes of the caller's to be read during a call: of a string, or of any container in one piece whose elements are
/// bits.
class BytesView : public span<const std::uint8_t> {
 public:
  constexpr BytesView() noexcept = default;
  BytesView(const void* data, std::size_t size) noexcept : span(static_cast<const std::uint8_t*>(data), size) {}
  BytesView(std::string_view text) noexcept : BytesView(text.data(), text.size()) {}
  BytesView(const std::string& text) noexcept : BytesView(text.data(), text.size()) {}
  BytesView(const char* text) noexcept : BytesView(std::string_view(text)) {}
  template <class Container, class = detail::IfCopyable<Container>>
  BytesView(const Container& container) noexcept
      : BytesView(std::data(container), std::size(container) * sizeof(detail::ElementOf<const Container>)) {}
};

/// How long a call may wait: any std::chrono duration, or `forever`.
class Timeout {
 public:
  template <class Rep, class Period>
  constexpr Timeout(std::chrono::duration<Rep, Period> duration) : milliseconds_(count(duration)) {}

  /// As C has it: -1 for ever.
  constexpr std::int64_t milliseconds() const noexcept { return milliseconds_; }
  static constexpr Timeout unlimited() noexcept { return Timeout(); }

 private:
  constexpr Timeout() noexcept = default;

  template <class Duration>
  static constexpr std::int64_t count(Duration duration) {
    const double milliseconds = std::chrono::duration<double, std::milli>(duration).count();
    if (!(milliseconds > 0)) return 0;
    if (milliseconds >= 9e18) return -1;
    return std::chrono::ceil<std::chrono::duration<std::int64_t, std::milli>>(duration).count();
  }

  std::int64_t milliseconds_ = -1;
};

/// Waits without limit.
inline constexpr Timeout forever = Timeout::unlimited();

/// The name of an object: 20 bytes, a value that can be compared, hashed, ordered and printed.
class ObjectId {
 public:
  /// Twenty zeros.
  constexpr ObjectId() noexcept = default;
  constexpr ObjectId(const plasma_object_id& id) noexcept : id_(id) {}

  static Result<ObjectId> try_random() {
    ObjectId made;
    const plasma_status status = plasma_object_id_random(&made.id_);
    return detail::outcome(status, "plasma_object_id_random", made);
  }
  static ObjectId random() { return try_random().value(); }

  /// Exactly 20 bytes.
  static Result<ObjectId> try_from_bytes(BytesView bytes) {
    ObjectId made;
    const plasma_status status = plasma_object_id_from_bytes(bytes.data(), bytes.size(), &made.id_);
    return detail::outcome(status, "plasma_object_id_from_bytes", made);
  }
  static ObjectId from_bytes(BytesView bytes) { return try_from_bytes(bytes).value(); }

  /// 40 hex digits.
  static Result<ObjectId> try_from_hex(const std::string& hex) {
    ObjectId made;
    if (auto text = detail::check_text(hex, "plasma_object_id_from_hex", "hex"); !text) return text.error();
    return detail::outcome(plasma_object_id_from_hex(hex.c_str(), &made.id_), "plasma_object_id_from_hex", made);
  }
  static ObjectId from_hex(const std::string& hex) { return try_from_hex(hex).value(); }

  /// The id of a name, the same in every language.
  static Result<ObjectId> try_from_name(const std::string& name, const std::string& name_space = "") {
    const char* const call = "plasma_object_id_from_name";
    ObjectId made;
    if (auto text = detail::check_text(name, call, "name"); !text) return text.error();
    if (auto text = detail::check_text(name_space, call, "name_space"); !text) return text.error();
    return detail::outcome(plasma_object_id_from_name(name_space.c_str(), name.c_str(), &made.id_), call, made);
  }
  static ObjectId from_name(const std::string& name, const std::string& name_space = "") {
    return try_from_name(name, name_space).value();
  }

  /// 40 lower-case hex digits.
  std::string hex() const {
    char digits[41] = {};
    plasma_object_id_to_hex(&id_, digits);
    return digits;
  }
  span<const std::uint8_t> bytes() const noexcept { return id_.bytes; }
  const plasma_object_id* raw() const noexcept { return &id_; }

  friend bool operator==(const ObjectId& a, const ObjectId& b) noexcept { return a.compare(b) == 0; }
  friend bool operator!=(const ObjectId& a, const ObjectId& b) noexcept { return a.compare(b) != 0; }
  friend bool operator<(const ObjectId& a, const ObjectId& b) noexcept { return a.compare(b) < 0; }
  friend std::ostream& operator<<(std::ostream& out, const ObjectId& id) { return out << id.hex(); }

 private:
  int compare(const ObjectId& other) const noexcept { return std::memcmp(&id_, &other.id_, sizeof id_); }

  plasma_object_id id_{};
};
static_assert(sizeof(ObjectId) == sizeof(plasma_object_id) && std::is_standard_layout_v<ObjectId>);

/// Ids of the caller's to be read during a call: one, a list in braces, or any container in one piece.
class Ids : public span<const ObjectId> {
 public:
  Ids(const ObjectId& id) noexcept : span(&id, 1) {}
  Ids(std::initializer_list<ObjectId> ids) noexcept : span(ids.begin(), ids.size()) {}
  template <class Container, class = detail::IfHolds<const Container, const ObjectId>>
  Ids(const Container& ids) noexcept : span(std::data(ids), std::size(ids)) {}

  const plasma_object_id* raw() const noexcept { return reinterpret_cast<const plasma_object_id*>(data()); }
};

}  // namespace store_v1
}  // namespace plasma

template <>
struct std::hash<plasma::ObjectId> {
  std::size_t operator()(const plasma::ObjectId& id) const noexcept {
    const auto bytes = id.bytes();
    return std::hash<std::string_view>()({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
};

#if defined(__cpp_lib_ranges)
// What a span points at does not go with the span.
template <class T>
inline constexpr bool std::ranges::enable_borrowed_range<plasma::span<T>> = true;
template <class T>
inline constexpr bool std::ranges::enable_view<plasma::span<T>> = true;
#endif

#endif  // PLASMA_STORE_VALUES_HPP_
