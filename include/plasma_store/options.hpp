//! How to connect, create and get: plain structs, whose defaults are those of C.
#ifndef PLASMA_STORE_OPTIONS_HPP_
#define PLASMA_STORE_OPTIONS_HPP_

#include <plasma_store/values.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace plasma {
inline namespace store_v1 {

/// How to connect.
struct ConnectOptions {
  /// How long to try again while no store is there.
  Timeout timeout = std::chrono::milliseconds(0);
  /// A signal handler that ran ends the wait of its thread.
  bool return_on_signal = false;
  /// How long a thread that waits stays awake.
  std::chrono::microseconds spin{0};
  /// Threads that copy into an object from 16 MiB on.
  std::size_t copy_threads = 0;
};

/// How to create, put or write.
struct CreateOptions {
  /// The user's metadata, to be read during the call.
  BytesView metadata;
  /// Whether others may be evicted to make room.
  bool evict = true;
  /// Have the kernel refuse every write once it is sealed, also the creator's: release its buffer and tensors before
  /// the seal.
  bool immutable = false;
  /// How long the object lives after its seal; 0 is no limit.
  std::chrono::milliseconds ttl{0};
  /// How long to wait for room.
  Timeout wait = std::chrono::milliseconds(0);
  /// Of a tensor: a name for each dimension, where "" is none. What is no tensor has none.
  std::vector<std::string> dimension_names;
  /// The name that the id was made from (ObjectId::from_name, without a name space), to be kept with the object; "" for
  /// none.
  std::string name;
};

/// How to get.
struct GetOptions {
  /// Map the object copy-on-write: what is written stays in this process.
  bool private_copy = false;
  /// Ask the store for what is not seen in shared memory.
  bool ask = true;
};

namespace detail {

inline plasma_connect_options connect_options(const ConnectOptions& options) {
  const std::int64_t most = std::numeric_limits<std::uint32_t>::max();
  auto made = sized<plasma_connect_options>();
  made.timeout_ms = options.timeout.milliseconds();
  if (options.return_on_signal) made.flags = PLASMA_CONNECT_RETURN_ON_SIGNAL;
  made.spin_us = static_cast<std::uint32_t>(std::clamp<std::int64_t>(options.spin.count(), 0, most));
  made.copy_threads = options.copy_threads;
  return made;
}

/// Good as long as the options are.
inline Result<plasma_create_options> create_options(const CreateOptions& options, const char* call) {
  if (auto text = check_text(options.name, call, "name"); !text) return text.error();
  auto made = sized<plasma_create_options>();
  if (!options.evict) made.flags |= PLASMA_CREATE_NO_EVICT;
  if (options.immutable) made.flags |= PLASMA_CREATE_IMMUTABLE;
  made.ttl_ms = options.ttl.count();
  made.wait_ms = options.wait.milliseconds();
  if (!options.name.empty()) made.name = options.name.c_str();
  return made;
}

/// The names of a tensor's dimensions as C takes them, good as long as the options are.
inline Result<std::vector<const char*>> dimension_names(const CreateOptions& options, std::size_t ndim,
                                                        const char* call) {
  std::vector<const char*> names;
  for (const std::string& name : options.dimension_names) {
    if (auto text = check_text(name, call, "a dimension's name"); !text) return text.error();
    names.push_back(name.c_str());
  }
  if (names.empty() || names.size() == ndim) return names;
  return Error(Status::invalid_argument, call,
               std::to_string(names.size()) + " names for " + std::to_string(ndim) + " dimensions");
}

inline Result<tensor_write_options> write_options(const CreateOptions& options, const std::vector<const char*>& names,
                                                  const char* call) {
  auto create = create_options(options, call);
  if (!create) return create.error();
  auto made = sized<tensor_write_options>();
  made.flags = create->flags;
  made.metadata = options.metadata.data();
  made.metadata_size = options.metadata.size();
  made.ttl_ms = create->ttl_ms;
  made.wait_ms = create->wait_ms;
  made.name = create->name;
  if (!names.empty()) made.dimension_names = names.data();
  return made;
}

inline plasma_get_options get_options(const GetOptions& options) {
  auto made = sized<plasma_get_options>();
  if (options.private_copy) made.flags |= PLASMA_GET_PRIVATE;
  if (!options.ask) made.flags |= PLASMA_GET_NO_ASK;
  return made;
}

}  // namespace detail
}  // namespace store_v1
}  // namespace plasma

#endif  // PLASMA_STORE_OPTIONS_HPP_
