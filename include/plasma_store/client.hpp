//! A connection to a store: everything that can be asked of one.
#ifndef PLASMA_STORE_CLIENT_HPP_
#define PLASMA_STORE_CLIENT_HPP_

#include <plasma_store/bundle.hpp>
#include <plasma_store/objects.hpp>
#include <plasma_store/options.hpp>
#include <plasma_store/subscription.hpp>
#include <plasma_store/tensor.hpp>

#include <memory>
#include <string>
#include <vector>

namespace plasma {
inline namespace store_v1 {

/// An object of a batch.
struct PutItem {
  ObjectId id;
  BytesView data;
  BytesView metadata;
  /// As in CreateOptions; "" for none.
  std::string name = {};
};

/// A connection. Its calls may come from any number of threads at once.
class Client {
 public:
  /// Holds nothing.
  Client() noexcept = default;
  /// Takes over a C handle.
  explicit Client(plasma_client* handle) noexcept : handle_(handle) {}

  /// Connects to the store at `socket`; "" is the default one.
  static Result<Client> try_connect(const std::string& socket = "", const ConnectOptions& options = {}) {
    const char* const call = "plasma_connect";
    if (auto text = detail::check_text(socket, call, "socket"); !text) return text.error();
    const auto wanted = detail::connect_options(options);
    plasma_client* client = nullptr;
    const plasma_status status = plasma_connect(socket.empty() ? nullptr : socket.c_str(), &wanted, &client);
    if (status != PLASMA_OK) return Error::last(status, call);
    return Client(client);
  }
  static Client connect(const std::string& socket = "", const ConnectOptions& options = {}) {
    return try_connect(socket, options).value();
  }

  explicit operator bool() const noexcept { return handle_ != nullptr; }
  plasma_client* handle() const noexcept { return handle_.get(); }
  plasma_client* release() noexcept { return handle_.release(); }

  /// Ends all waits on this client with `interrupted`, in any thread; may be called in a signal handler.
  void interrupt() const noexcept { plasma_interrupt(handle()); }

  // --- objects: bytes in, bytes out

  /// Creates an object with room for `size` bytes: fill `mutable_data()`, or `write`, then seal.
  Result<Buffer> try_create(const ObjectId& id, std::uint64_t size, const CreateOptions& options = {}) const {
    const char* const call = "plasma_create";
    auto wanted = detail::create_options(options, call);
    if (!wanted) return wanted.error();
    const BytesView metadata = options.metadata;
    plasma_buffer* buffer = nullptr;
    const plasma_status status =
        plasma_create(handle(), id.raw(), size, metadata.data(), metadata.size(), &*wanted, &buffer);
    return buffer_of(status, call, buffer);
  }
  Buffer create(const ObjectId& id, std::uint64_t size, const CreateOptions& options = {}) const {
    return try_create(id, size, options).value();
  }

  /// Makes an object that this client created immutable, and gives it to everybody.
  Result<void> try_seal(const ObjectId& id) const {
    return detail::outcome(plasma_seal(handle(), id.raw()), "plasma_seal");
  }
  void seal(const ObjectId& id) const { try_seal(id).value(); }

  /// Gives up an object that this client created and has not sealed.
  Result<void> try_abort(const ObjectId& id) const {
    return detail::outcome(plasma_abort(handle(), id.raw()), "plasma_abort");
  }
  void abort(const ObjectId& id) const { try_abort(id).value(); }

  /// Stores a copy of bytes as a sealed object.
  Result<void> try_put(const ObjectId& id, BytesView data, const CreateOptions& options = {}) const {
    const char* const call = "plasma_put";
    auto wanted = detail::create_options(options, call);
    if (!wanted) return wanted.error();
    const BytesView metadata = options.metadata;
    const plasma_status status =
        plasma_put(handle(), id.raw(), data.data(), data.size(), metadata.data(), metadata.size(), &*wanted);
    return detail::outcome(status, call);
  }
  void put(const ObjectId& id, BytesView data, const CreateOptions& options = {}) const {
    try_put(id, data, options).value();
  }

  /// Stores many small objects with one request: all of them, or none. Of the options only `evict` counts.
  Result<void> try_put_batch(span<const PutItem> items, const CreateOptions& options = {}) const {
    const char* const call = "plasma_put_batch";
    std::vector<plasma_put_item> batch;
    batch.reserve(items.size());
    for (const PutItem& item : items) {
      if (auto text = detail::check_text(item.name, call, "an item's name"); !text) return text;
      const char* const name = item.name.empty() ? nullptr : item.name.c_str();
      const BytesView data = item.data, metadata = item.metadata;
      batch.push_back({*item.id.raw(), data.data(), data.size(), metadata.data(), metadata.size(), name});
    }
    auto wanted = detail::create_options(options, call);
    if (!wanted) return wanted.error();
    return detail::outcome(plasma_put_batch(handle(), batch.data(), batch.size(), &*wanted), call);
  }
  void put_batch(span<const PutItem> items, const CreateOptions& options = {}) const {
    try_put_batch(items, options).value();
  }

  /// The same as `put`, soon: `flush` waits for it.
  Result<void> try_put_async(const ObjectId& id, BytesView data, const CreateOptions& options = {}) const {
    const char* const call = "plasma_put_async";
    auto wanted = detail::create_options(options, call);
    if (!wanted) return wanted.error();
    const BytesView metadata = options.metadata;
    return detail::outcome(
        plasma_put_async(handle(), id.raw(), data.data(), data.size(), metadata.data(), metadata.size(), &*wanted),
        call);
  }
  void put_async(const ObjectId& id, BytesView data, const CreateOptions& options = {}) const {
    try_put_async(id, data, options).value();
  }

  /// The same as `seal`, soon: `flush` waits for it.
  Result<void> try_seal_async(const ObjectId& id) const {
    return detail::outcome(plasma_seal_async(handle(), id.raw()), "plasma_seal_async");
  }
  void seal_async(const ObjectId& id) const { try_seal_async(id).value(); }

  /// Waits until all is done that was put or sealed without waiting; the error is that of the first object that could
  /// not be.
  Result<void> try_flush() const {
    return detail::outcome(plasma_flush(handle(), nullptr, nullptr, 0, nullptr), "plasma_flush");
  }
  void flush() const { try_flush().value(); }

  /// The same, and tells of up to `most` objects that could not be put or sealed, instead of failing with the first.
  Result<Flushed> try_flush_and_tell(std::size_t most = 1024) const {
    std::vector<ObjectId> ids(most);
    std::vector<plasma_status> statuses(most);
    auto* const raw = reinterpret_cast<plasma_object_id*>(ids.data());
    Flushed flushed;
    const plasma_status status = plasma_flush(handle(), raw, statuses.data(), most, &flushed.failed);
    if (status != PLASMA_OK && flushed.failed == 0) return Error::last(status, "plasma_flush");
    for (std::size_t i = 0; i < most && i < flushed.failed; i++) {
      flushed.failures.push_back({ids[i], static_cast<Status>(statuses[i])});
    }
    return flushed;
  }
  Flushed flush_and_tell(std::size_t most = 1024) const { return try_flush_and_tell(most).value(); }

  /// Gets one object, waiting for it.
  Result<Buffer> try_get(const ObjectId& id, Timeout timeout = forever, const GetOptions& options = {}) const {
    const auto wanted = detail::get_options(options);
    plasma_buffer* buffer = nullptr;
    const plasma_status status = plasma_get(handle(), id.raw(), 1, timeout.milliseconds(), &wanted, &buffer);
    return buffer_of(status, "plasma_get", buffer);
  }
  Buffer get(const ObjectId& id, Timeout timeout = forever, const GetOptions& options = {}) const {
    return try_get(id, timeout, options).value();
  }

  /// Gets several: all of them, or the error.
  Result<std::vector<Buffer>> try_get_all(Ids ids, Timeout timeout = forever, const GetOptions& options = {}) const {
    std::vector<Buffer> buffers;
    const plasma_status status = get_into(buffers, ids, timeout, options);
    return detail::outcome(status, "plasma_get", buffers);
  }
  std::vector<Buffer> get_all(Ids ids, Timeout timeout = forever, const GetOptions& options = {}) const {
    return try_get_all(ids, timeout, options).value();
  }

  /// Gets those of several that are there when the time is over; a Buffer that holds nothing stands for each other one.
  Result<std::vector<Buffer>> try_get_some(Ids ids, Timeout timeout, const GetOptions& options = {}) const {
    std::vector<Buffer> buffers;
    const plasma_status status = get_into(buffers, ids, timeout, options);
    return detail::outcome(status == PLASMA_TIMEOUT ? PLASMA_OK : status, "plasma_get", buffers);
  }
  std::vector<Buffer> get_some(Ids ids, Timeout timeout, const GetOptions& options = {}) const {
    return try_get_some(ids, timeout, options).value();
  }

  /// Whether a sealed object of this id is there.
  Result<bool> try_contains(const ObjectId& id) const {
    bool found = false;
    return detail::outcome(plasma_contains(handle(), id.raw(), &found), "plasma_contains", found);
  }
  bool contains(const ObjectId& id) const { return try_contains(id).value(); }

  /// Deletes objects; those in use go later. What became of each: ok, object_not_found, object_in_use or
  /// object_not_sealed.
  Result<std::vector<Status>> try_remove(Ids ids) const {
    std::vector<plasma_status> results(ids.size());
    const plasma_status status = plasma_delete(handle(), ids.raw(), ids.size(), results.data());
    std::vector<Status> statuses;
    for (const plasma_status result : results) statuses.push_back(static_cast<Status>(result));
    return detail::outcome(status, "plasma_delete", statuses);
  }
  std::vector<Status> remove(Ids ids) const { return try_remove(ids).value(); }

  /// All objects of the store.
  Result<ObjectList> try_list() const {
    plasma_object_list* list = nullptr;
    const plasma_status status = plasma_list(handle(), &list);
    if (status != PLASMA_OK) return Error::last(status, "plasma_list");
    return ObjectList(list);
  }
  ObjectList list() const { return try_list().value(); }

  /// The name that a sealed object was created with, "" for none. Nothing is waited or asked for.
  Result<std::string> try_name_of(const ObjectId& id) const {
    return detail::text_of("plasma_object_name", [&](char* out, std::size_t size, std::size_t* length) {
      return plasma_object_name(handle(), id.raw(), out, size, length);
    });
  }
  std::string name_of(const ObjectId& id) const { return try_name_of(id).value(); }

  // --- tensors: numbers in, numbers out

  /// Stores a copy of any CPU tensor that DLPack can describe.
  Result<void> try_put_tensor(const ObjectId& id, const DLTensor& tensor, const CreateOptions& options = {}) const {
    const char* const call = "tensor_write";
    auto names = detail::dimension_names(options, static_cast<std::size_t>(tensor.ndim), call);
    if (!names) return names.error();
    auto wanted = detail::write_options(options, *names, call);
    if (!wanted) return wanted.error();
    return detail::outcome(tensor_write(handle(), id.raw(), &tensor, &*wanted), call);
  }
  void put_tensor(const ObjectId& id, const DLTensor& tensor, const CreateOptions& options = {}) const {
    try_put_tensor(id, tensor, options).value();
  }

#ifdef DLPACK_MAJOR_VERSION
  /// The same with the struct of DLPack 1.x, whose flags may say that small elements have a byte each. It stays the
  /// caller's.
  Result<void> try_put_tensor(const ObjectId& id, const DLManagedTensorVersioned& tensor,
                              const CreateOptions& options = {}) const {
    const char* const call = "tensor_write_versioned";
    auto names = detail::dimension_names(options, static_cast<std::size_t>(tensor.dl_tensor.ndim), call);
    if (!names) return names.error();
    auto wanted = detail::write_options(options, *names, call);
    if (!wanted) return wanted.error();
    return detail::outcome(tensor_write_versioned(handle(), id.raw(), &tensor, &*wanted), call);
  }
  void put_tensor(const ObjectId& id, const DLManagedTensorVersioned& tensor, const CreateOptions& options = {}) const {
    try_put_tensor(id, tensor, options).value();
  }
#endif

  /// Stores a copy of memory of any element type and strides.
  Result<void> try_put_tensor(const ObjectId& id, TensorView tensor, const CreateOptions& options = {}) const {
    if (auto fits = tensor.check(); !fits) return fits;
    return try_put_tensor(id, tensor.dlpack(), options);
  }
  void put_tensor(const ObjectId& id, TensorView tensor, const CreateOptions& options = {}) const {
    try_put_tensor(id, std::move(tensor), options).value();
  }

  /// Stores a copy of a container's elements, which are row-major in `shape`.
  template <class Container, class = detail::ElementOf<const Container>>
  Result<void> try_put_tensor(const ObjectId& id, const Container& values, Shape shape,
                              const CreateOptions& options = {}) const {
    return try_put_tensor(id, TensorView(values, std::move(shape)), options);
  }
  template <class Container, class = detail::ElementOf<const Container>>
  void put_tensor(const ObjectId& id, const Container& values, Shape shape, const CreateOptions& options = {}) const {
    try_put_tensor(id, values, std::move(shape), options).value();
  }

  /// Creates a row-major tensor of any element type, to be filled in place and then sealed.
  Result<Tensor> try_create_tensor(const ObjectId& id, DType dtype, const Shape& shape,
                                   const CreateOptions& options = {}) const {
    const char* const call = "tensor_create_buffer";
    auto names = detail::dimension_names(options, shape.size(), call);
    if (!names) return names.error();
    auto wanted = detail::write_options(options, *names, call);
    if (!wanted) return wanted.error();
    const auto ndim = static_cast<std::int32_t>(shape.size());
    plasma_buffer* buffer = nullptr;
    const plasma_status status =
        tensor_create_buffer(handle(), id.raw(), dtype, ndim, shape.data(), &*wanted, &buffer);
    return tensor_of(buffer_of(status, call, buffer));
  }
  Tensor create_tensor(const ObjectId& id, DType dtype, const Shape& shape, const CreateOptions& options = {}) const {
    return try_create_tensor(id, dtype, shape, options).value();
  }

  /// The same for the element type T.
  template <class T>
  Result<Tensor> try_create_tensor(const ObjectId& id, const Shape& shape, const CreateOptions& options = {}) const {
    return try_create_tensor(id, dtype_of<T>::value, shape, options);
  }
  template <class T>
  Tensor create_tensor(const ObjectId& id, const Shape& shape, const CreateOptions& options = {}) const {
    return try_create_tensor<T>(id, shape, options).value();
  }

  /// Gets a tensor without a copy, waiting for it.
  Result<Tensor> try_get_tensor(const ObjectId& id, Timeout timeout = forever, const GetOptions& options = {}) const {
    return tensor_of(try_get(id, timeout, options));
  }
  Tensor get_tensor(const ObjectId& id, Timeout timeout = forever, const GetOptions& options = {}) const {
    return try_get_tensor(id, timeout, options).value();
  }

  // --- bundles: many named tensors, one object

  /// Stores copies of tensors as one sealed object, byte for byte a safetensors file, with what is said beside them:
  /// `put_tensors(id, {{"weight", {weight, {2, 3}}}, {"bias", {bias, {3}}}}, {{"step", "5"}})`. They lie row-major.
  Result<void> try_put_tensors(const ObjectId& id, std::vector<NamedView> tensors, const Texts& metadata = {},
                               const CreateOptions& options = {}) const {
    const char* const call = "tensor_bundle_write";
    detail::NewBundle made;
    if (auto added = made.add(tensors, call); !added) return added;
    if (auto said = made.say(metadata, call); !said) return said;
    if (auto set = made.set(options, call); !set) return set;
    const auto& items = made.items;
    return detail::outcome(tensor_bundle_write(handle(), id.raw(), items.data(), items.size(), &made.options), call);
  }
  void put_tensors(const ObjectId& id, std::vector<NamedView> tensors, const Texts& metadata = {},
                   const CreateOptions& options = {}) const {
    try_put_tensors(id, std::move(tensors), metadata, options).value();
  }

  /// Gets a bundle without a copy, waiting for it; any safetensors file that was put as it is will do.
  Result<Bundle> try_get_tensors(const ObjectId& id, Timeout timeout = forever, const GetOptions& options = {}) const {
    auto buffer = try_get(id, timeout, options);
    if (!buffer) return buffer.error();
    return Bundle::try_from(*buffer);
  }
  Bundle get_tensors(const ObjectId& id, Timeout timeout = forever, const GetOptions& options = {}) const {
    return try_get_tensors(id, timeout, options).value();
  }

  // --- the store

  /// Bytes that the store holds at most.
  Result<std::uint64_t> try_capacity() const {
    std::uint64_t bytes = 0;
    return detail::outcome(plasma_client_capacity(handle(), &bytes), "plasma_client_capacity", bytes);
  }
  std::uint64_t capacity() const { return try_capacity().value(); }

  /// Evicts what nobody holds, oldest first, until `bytes` are freed or nothing is left; tells how many were.
  Result<std::uint64_t> try_evict(std::uint64_t bytes) const {
    std::uint64_t evicted = 0;
    return detail::outcome(plasma_evict(handle(), bytes, &evicted), "plasma_evict", evicted);
  }
  std::uint64_t evict(std::uint64_t bytes) const { return try_evict(bytes).value(); }

  /// Marks objects as just used.
  Result<void> try_refresh(Ids ids) const {
    return detail::outcome(plasma_refresh(handle(), ids.raw(), ids.size()), "plasma_refresh");
  }
  void refresh(Ids ids) const { try_refresh(ids).value(); }

  /// Keeps objects from eviction until somebody unpins them.
  Result<void> try_pin(Ids ids) const {
    return detail::outcome(plasma_pin(handle(), ids.raw(), ids.size()), "plasma_pin");
  }
  void pin(Ids ids) const { try_pin(ids).value(); }
  Result<void> try_unpin(Ids ids) const {
    return detail::outcome(plasma_unpin(handle(), ids.raw(), ids.size()), "plasma_unpin");
  }
  void unpin(Ids ids) const { try_unpin(ids).value(); }

  /// The digest that old Plasma has of an object.
  Result<Digest> try_hash(const ObjectId& id) const {
    Digest digest{};
    return detail::outcome(plasma_hash(handle(), id.raw(), digest.data()), "plasma_hash", digest);
  }
  Digest hash(const ObjectId& id) const { return try_hash(id).value(); }

  /// Names this client in the store's figures and reserves memory for what it creates; once.
  Result<void> try_set_options(const std::string& name, std::int64_t output_memory_quota) const {
    if (auto text = detail::check_text(name, "plasma_set_options", "name"); !text) return text;
    return detail::outcome(plasma_set_options(handle(), name.c_str(), output_memory_quota), "plasma_set_options");
  }
  void set_options(const std::string& name, std::int64_t output_memory_quota) const {
    try_set_options(name, output_memory_quota).value();
  }

  /// The store's figures as text, and as numbers.
  Result<std::string> try_debug_string() const {
    return detail::text_of("plasma_debug_string", [&](char* out, std::size_t size, std::size_t* length) {
      return plasma_debug_string(handle(), out, size, length);
    });
  }
  std::string debug_string() const { return try_debug_string().value(); }
  Result<plasma_store_stats> try_stats() const {
    auto stats = detail::sized<plasma_store_stats>();
    return detail::outcome(plasma_stats(handle(), &stats), "plasma_stats", stats);
  }
  plasma_store_stats stats() const { return try_stats().value(); }

  /// Begins a stream of events, by default with one for each object that is there.
  Result<Subscription> try_subscribe(bool skip_existing = false) const {
    auto wanted = detail::sized<plasma_subscribe_options>();
    wanted.flags = skip_existing ? PLASMA_SUBSCRIBE_SKIP_EXISTING : 0;
    plasma_subscription* subscription = nullptr;
    const plasma_status status = plasma_subscribe(handle(), &wanted, &subscription);
    if (status != PLASMA_OK) return Error::last(status, "plasma_subscribe");
    return Subscription(subscription);
  }
  Subscription subscribe(bool skip_existing = false) const { return try_subscribe(skip_existing).value(); }

  // --- for event loops: one descriptor for any number of objects

  /// Has `watch_fd` be readable when one of these is sealed.
  Result<void> try_watch(Ids ids) const {
    return detail::outcome(plasma_watch(handle(), ids.raw(), ids.size()), "plasma_watch");
  }
  void watch(Ids ids) const { try_watch(ids).value(); }
  Result<void> try_unwatch(Ids ids) const {
    return detail::outcome(plasma_unwatch(handle(), ids.raw(), ids.size()), "plasma_unwatch");
  }
  void unwatch(Ids ids) const { try_unwatch(ids).value(); }
  /// To poll; it belongs to the client. -1 where the store cannot tell.
  int watch_fd() const noexcept { return plasma_watch_fd(handle()); }

  /// Up to `most` objects that it is worth to look for; when so many come, there may be more. Does not wait.
  Result<std::vector<ObjectId>> try_watch_take(std::size_t most = 256) const {
    std::vector<ObjectId> ids(most);
    std::size_t count = 0;
    auto* const raw = reinterpret_cast<plasma_object_id*>(ids.data());
    const plasma_status status = plasma_watch_take(handle(), raw, most, &count);
    ids.resize(count);
    return detail::outcome(status, "plasma_watch_take", ids);
  }
  std::vector<ObjectId> watch_take(std::size_t most = 256) const { return try_watch_take(most).value(); }

 private:
  static Result<Buffer> buffer_of(plasma_status status, const char* call, plasma_buffer* filled) {
    Buffer buffer(filled);
    return detail::outcome(status, call, buffer);
  }

  static Result<Tensor> tensor_of(Result<Buffer> buffer) {
    if (!buffer) return buffer.error();
    return Tensor::try_from(std::move(*buffer));
  }

  /// What is held comes to be in `buffers`, also when time ran out.
  plasma_status get_into(std::vector<Buffer>& buffers, Ids ids, Timeout timeout, const GetOptions& options) const {
    const auto wanted = detail::get_options(options);
    std::vector<plasma_buffer*> handles(ids.size());
    buffers.reserve(ids.size());
    const plasma_status status =
        plasma_get(handle(), ids.raw(), ids.size(), timeout.milliseconds(), &wanted, handles.data());
    for (plasma_buffer* const filled : handles) buffers.emplace_back(filled);
    return status;
  }

  std::unique_ptr<plasma_client, detail::Release> handle_;
};

}  // namespace store_v1
}  // namespace plasma

#endif  // PLASMA_STORE_CLIENT_HPP_
