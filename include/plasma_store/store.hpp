//! A store inside this process, and the versions of the library.
#ifndef PLASMA_STORE_STORE_HPP_
#define PLASMA_STORE_STORE_HPP_

#include <plasma_store/values.hpp>

#include <memory>
#include <string>

namespace plasma {
inline namespace store_v1 {

/// Version of the library that runs, such as "0.1.0".
inline const char* version() noexcept { return plasma_version(); }
/// Version of its ABI: at least PLASMA_ABI_VERSION.
inline std::uint32_t abi_version() noexcept { return plasma_abi_version(); }

/// What a store is to be.
struct StoreOptions {
  /// Where it listens; empty for a fresh path in a directory that only this user can enter.
  std::string socket_path;
  /// Bytes of data and metadata that it holds at most; 0 for 256 MiB.
  std::uint64_t capacity = 0;
};

/// A store with a thread of its own. It ends with this; other processes connect to it as to the daemon.
class Store {
 public:
  /// Holds nothing.
  Store() noexcept = default;
  /// Takes over a C handle.
  explicit Store(plasma_store* handle) noexcept : handle_(handle) {}

  static Result<Store> try_start(const StoreOptions& options = {}) {
    const char* const call = "plasma_store_start";
    if (auto text = detail::check_text(options.socket_path, call, "socket_path"); !text) return text.error();
    auto wanted = detail::sized<plasma_store_options>();
    wanted.socket_path = options.socket_path.empty() ? nullptr : options.socket_path.c_str();
    wanted.capacity = options.capacity;
    plasma_store* store = nullptr;
    const plasma_status status = plasma_store_start(&wanted, &store);
    if (status != PLASMA_OK) return Error::last(status, call);
    return Store(store);
  }
  static Store start(const StoreOptions& options = {}) { return try_start(options).value(); }

  explicit operator bool() const noexcept { return handle_ != nullptr; }
  plasma_store* handle() const noexcept { return handle_.get(); }
  plasma_store* release() noexcept { return handle_.release(); }

  /// Where it listens; empty when this holds nothing.
  std::string socket() const {
    const char* path = plasma_store_socket(handle());
    return path == nullptr ? "" : path;
  }

  /// Ends it now, and says how that went.
  Result<void> try_stop() noexcept { return detail::outcome(plasma_store_stop(release()), "plasma_store_stop"); }
  void stop() { try_stop().value(); }

 private:
  std::unique_ptr<plasma_store, detail::Release> handle_;
};

/// As long as this lives, what waits in the thread that made it ends with `interrupted` once `fd` can be read.
class WakeFd {
 public:
  explicit WakeFd(int fd) { detail::outcome(plasma_set_wake_fd(fd), "plasma_set_wake_fd").value(); }
  ~WakeFd() { plasma_set_wake_fd(-1); }
  WakeFd(const WakeFd&) = delete;
  WakeFd& operator=(const WakeFd&) = delete;
};

}  // namespace store_v1
}  // namespace plasma

#endif  // PLASMA_STORE_STORE_HPP_
