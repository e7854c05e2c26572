//! What a call comes to: a status, an error, or a value.
#ifndef PLASMA_STORE_RESULT_HPP_
#define PLASMA_STORE_RESULT_HPP_

#include <plasma_store.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>

namespace plasma {
// The inline namespace keeps these names apart from those of Plasma 11's library in one program.
inline namespace store_v1 {

/// What `plasma_status` says. A newer library may have others: compare, and do not switch without a default.
enum class Status : plasma_status {
  ok = PLASMA_OK,
  object_exists = PLASMA_OBJECT_EXISTS,
  object_not_found = PLASMA_OBJECT_NOT_FOUND,
  store_full = PLASMA_STORE_FULL,
  object_not_sealed = PLASMA_OBJECT_NOT_SEALED,
  object_in_use = PLASMA_OBJECT_IN_USE,
  object_already_sealed = PLASMA_OBJECT_ALREADY_SEALED,
  timeout = PLASMA_TIMEOUT,
  interrupted = PLASMA_INTERRUPTED,
  busy = PLASMA_BUSY,
  invalid_argument = PLASMA_INVALID_ARGUMENT,
  disconnected = PLASMA_DISCONNECTED,
  connect_failed = PLASMA_CONNECT_FAILED,
  unsupported_peer = PLASMA_UNSUPPORTED_PEER,
  protocol_error = PLASMA_PROTOCOL_ERROR,
  unsupported = PLASMA_UNSUPPORTED,
  corrupt = PLASMA_CORRUPT,
  forked = PLASMA_FORKED,
  out_of_memory = PLASMA_OUT_OF_MEMORY,
  io_error = PLASMA_IO_ERROR,
  address_in_use = PLASMA_ADDRESS_IN_USE,
  panic = PLASMA_PANIC,
  owner_died = PLASMA_OWNER_DIED,
  closed = PLASMA_CLOSED,
  aborted = PLASMA_ABORTED,
};

/// A short text for a status.
inline const char* to_string(Status status) noexcept {
  return plasma_status_string(static_cast<plasma_status>(status));
}

/// Why a call failed. `what()` has the call, the status and the message with the number or name that was wrong.
class Error : public std::runtime_error {
 public:
  Error(Status status, const std::string& call, const std::string& message)
      : std::runtime_error(call + ": " + message), status_(status) {}

  /// The error of the C call that just failed in this thread.
  static Error last(plasma_status status, const char* call) {
    return Error(static_cast<Status>(status), call, plasma_last_error_message());
  }

  Status status() const noexcept { return status_; }

 private:
  Status status_;
};

namespace detail {

[[noreturn]] inline void raise(const Error& error) {
#if defined(__cpp_exceptions)
  throw error;
#else
  std::fprintf(stderr, "%s\n", error.what());
  std::abort();
#endif
}

}  // namespace detail

/// A value, or why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : content_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : content_(std::in_place_index<1>, std::move(error)) {}

  bool has_value() const noexcept { return content_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }
  /// `Status::ok` where there is a value.
  Status status() const noexcept { return has_value() ? Status::ok : std::get_if<1>(&content_)->status(); }

  /// The value; throws the error where there is none.
  T& value() & { return checked(); }
  T value() && { return std::move(checked()); }

  /// The value, where there is one.
  T& operator*() & noexcept { return *std::get_if<0>(&content_); }
  T&& operator*() && noexcept { return std::move(*std::get_if<0>(&content_)); }
  T* operator->() noexcept { return std::get_if<0>(&content_); }

  /// The error, where there is no value.
  const Error& error() const noexcept { return *std::get_if<1>(&content_); }

 private:
  T& checked() {
    if (!has_value()) detail::raise(error());
    return **this;
  }

  std::variant<T, Error> content_;
};

/// Nothing, or why a call failed.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : content_(std::move(error)) {}

  bool has_value() const noexcept { return content_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }
  Status status() const noexcept { return has_value() ? Status::ok : error().status(); }

  /// Throws the error where there is one.
  void value() const {
    if (!has_value()) detail::raise(error());
  }

  const Error& error() const noexcept { return *std::get_if<1>(&content_); }

 private:
  std::variant<std::monostate, Error> content_;
};

namespace detail {

/// What a C call without a result comes to.
inline Result<void> outcome(plasma_status status, const char* call) {
  if (status != PLASMA_OK) return Error::last(status, call);
  return {};
}

/// What a C call comes to that has filled `result` if it succeeded. A reference, so that the call may stand among the
/// arguments.
template <class T>
Result<T> outcome(plasma_status status, const char* call, T& result) {
  if (status != PLASMA_OK) return Error::last(status, call);
  return Result<T>(std::move(result));
}

/// A text with a zero byte in it would reach C cut short.
inline Result<void> check_text(const std::string& text, const char* call, const char* what) {
  const std::size_t zero = text.find('\0');
  if (zero == std::string::npos) return {};
  return Error(Status::invalid_argument, call, std::string(what) + " has a zero byte at " + std::to_string(zero));
}

/// A text of any length that a C call writes to (place, size, length).
template <class Call>
Result<std::string> text_of(const char* name, Call call) {
  std::string text;
  for (std::size_t length = 64; length > text.size();) {
    text.resize(length);
    const plasma_status status = call(text.data(), text.size() + 1, &length);
    if (status != PLASMA_OK) return Error::last(status, name);
    if (length <= text.size()) text.resize(length);
  }
  return text;
}

/// A struct of the C header that begins with its size, with zeros for all defaults.
template <class Struct>
Struct sized() {
  Struct made{};
  made.struct_size = sizeof made;
  return made;
}

/// How the C handles end.
struct Release {
  void operator()(plasma_client* client) const noexcept { plasma_client_free(client); }
  void operator()(plasma_buffer* buffer) const noexcept { plasma_buffer_release(buffer); }
  void operator()(tensor_bundle* bundle) const noexcept { tensor_bundle_free(bundle); }
  void operator()(tensor_ring* ring) const noexcept { tensor_ring_leave(ring); }
  void operator()(tensor_shared* shared) const noexcept { tensor_shared_close(shared); }
  void operator()(plasma_object_list* list) const noexcept { plasma_object_list_free(list); }
  void operator()(plasma_subscription* subscription) const noexcept { plasma_subscription_free(subscription); }
  void operator()(plasma_store* store) const noexcept { plasma_store_stop(store); }
  void operator()(DLManagedTensor* tensor) const noexcept { tensor->deleter(tensor); }
#ifdef DLPACK_MAJOR_VERSION
  void operator()(DLManagedTensorVersioned* tensor) const noexcept { tensor->deleter(tensor); }
#endif
};

}  // namespace detail
}  // namespace store_v1
}  // namespace plasma

#endif  // PLASMA_STORE_RESULT_HPP_
