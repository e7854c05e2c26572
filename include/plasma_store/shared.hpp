//! Shared tensors: arrays that several processes write, until one of them freezes them.
#ifndef PLASMA_STORE_SHARED_HPP_
#define PLASMA_STORE_SHARED_HPP_

#include <plasma_store/client.hpp>
#include <plasma_store/tensor.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace plasma {
inline namespace store_v1 {

/// How to create a shared tensor.
struct SharedOptions {
  /// It lives until it is removed, also while nobody has it open.
  bool keep = false;
  /// As in CreateOptions.
  std::string name = {};
};

/// The lock of a shared tensor, which is this thread's until this ends. It keeps the tensor open.
class SharedLock {
 public:
  /// Holds nothing.
  SharedLock() noexcept = default;
  SharedLock(std::shared_ptr<tensor_shared> shared, bool owner_died) noexcept
      : shared_(std::move(shared)), owner_died_(owner_died) {}
  SharedLock(SharedLock&& other) noexcept = default;
  SharedLock& operator=(SharedLock&& other) noexcept {
    if (this == &other) return *this;
    let_go();
    shared_ = std::move(other.shared_);
    owner_died_ = other.owner_died_;
    return *this;
  }
  ~SharedLock() { let_go(); }

  explicit operator bool() const noexcept { return shared_ != nullptr; }
  /// Whether who had the lock before died with it, so that the elements may be half written. The unlock says that they
  /// are in order again.
  bool owner_died() const noexcept { return owner_died_; }

  /// Gives it back now.
  Result<void> try_unlock() {
    auto came_to = detail::outcome(tensor_shared_unlock(shared_.get()), "tensor_shared_unlock");
    if (came_to) shared_.reset();
    return came_to;
  }
  void unlock() { try_unlock().value(); }

 private:
  void let_go() noexcept {
    if (shared_ != nullptr) tensor_shared_unlock(shared_.get());
    shared_.reset();
  }

  std::shared_ptr<tensor_shared> shared_;
  bool owner_died_ = false;
};

/// A tensor that this process has open for writing; threads may share it.
///
///     auto shared = plasma::SharedTensor::create<float>(client, id, {1000, 3});
///     plasma::Tensor tensor = shared.tensor();
///     const auto lock = shared.lock(1s);
///     if (lock.owner_died()) repair(tensor);
///     tensor.mutable_values<float>()[0] = 1;
class SharedTensor {
 public:
  /// Holds nothing.
  SharedTensor() noexcept = default;
  /// Takes over a C handle.
  explicit SharedTensor(tensor_shared* handle) : handle_(handle, detail::Release()) {}

  /// Creates one of this type and shape with these elements, or of zeros where its data are null, and opens it.
  static Result<SharedTensor> try_create(const Client& client, const ObjectId& id, const DLTensor& like,
                                         const SharedOptions& options = {}) {
    const char* const call = "tensor_shared_create";
    if (auto text = detail::check_text(options.name, call, "name"); !text) return text.error();
    auto wanted = detail::sized<tensor_shared_options>();
    if (options.keep) wanted.flags = TENSOR_SHARED_KEEP;
    if (!options.name.empty()) wanted.name = options.name.c_str();
    tensor_shared* shared = nullptr;
    const plasma_status status = tensor_shared_create(client.handle(), id.raw(), &like, &wanted, &shared);
    if (status != PLASMA_OK) return Error::last(status, call);
    return SharedTensor(shared);
  }
  static SharedTensor create(const Client& client, const ObjectId& id, const DLTensor& like,
                             const SharedOptions& options = {}) {
    return try_create(client, id, like, options).value();
  }

  /// With a copy of memory of any element type and strides.
  static Result<SharedTensor> try_create(const Client& client, const ObjectId& id, TensorView like,
                                         const SharedOptions& options = {}) {
    if (auto fits = like.check(); !fits) return fits.error();
    return try_create(client, id, like.dlpack(), options);
  }
  static SharedTensor create(const Client& client, const ObjectId& id, TensorView like,
                             const SharedOptions& options = {}) {
    return try_create(client, id, std::move(like), options).value();
  }

  /// Zeros of the element type T.
  template <class T>
  static Result<SharedTensor> try_create(const Client& client, const ObjectId& id, Shape shape,
                                         const SharedOptions& options = {}) {
    return try_create(client, id, TensorView(nullptr, dtype_of<T>::value, std::move(shape)), options);
  }
  template <class T>
  static SharedTensor create(const Client& client, const ObjectId& id, Shape shape,
                             const SharedOptions& options = {}) {
    return try_create<T>(client, id, std::move(shape), options).value();
  }

  /// Opens one that is there, or will be in time.
  static Result<SharedTensor> try_open(const Client& client, const ObjectId& id, Timeout timeout = forever) {
    tensor_shared* shared = nullptr;
    const plasma_status status = tensor_shared_open(client.handle(), id.raw(), timeout.milliseconds(), &shared);
    if (status != PLASMA_OK) return Error::last(status, "tensor_shared_open");
    return SharedTensor(shared);
  }
  static SharedTensor open(const Client& client, const ObjectId& id, Timeout timeout = forever) {
    return try_open(client, id, timeout).value();
  }

  explicit operator bool() const noexcept { return handle_ != nullptr; }
  tensor_shared* handle() const noexcept { return handle_.get(); }

  Result<ObjectId> try_id() const {
    plasma_object_id id{};
    const plasma_status status = tensor_shared_id(handle(), &id);
    if (status != PLASMA_OK) return Error::last(status, "tensor_shared_id");
    return ObjectId(id);
  }
  ObjectId id() const { return try_id().value(); }

  /// Element type, shape and place. The place is good until a freeze is tried, or this ends.
  Result<tensor_description> try_describe() const {
    auto about = detail::sized<tensor_description>();
    return detail::outcome(tensor_shared_describe(handle(), &about), "tensor_shared_describe", about);
  }
  tensor_description describe() const { return try_describe().value(); }
  DType dtype() const { return describe().dtype; }
  Shape shape() const {
    const tensor_description about = describe();
    return Shape(about.shape, about.shape + about.ndim);
  }

  /// The tensor in its memory, for writing: see `mutable_values`. It keeps it open, and from being frozen.
  Result<Tensor> try_tensor() const {
    plasma_buffer* buffer = nullptr;
    const plasma_status status = tensor_shared_buffer(handle(), &buffer);
    if (status != PLASMA_OK) return Error::last(status, "tensor_shared_buffer");
    return Tensor::try_from(Buffer(buffer));
  }
  Tensor tensor() const { return try_tensor().value(); }

  /// The same for a library that takes DLPack.
  Result<ManagedTensor> try_to_dlpack() const {
    const auto make = [&](DLManagedTensor** out) { return tensor_shared_export(handle(), out); };
    return detail::managed<DLManagedTensor>("tensor_shared_export", make);
  }
  ManagedTensor to_dlpack() const { return try_to_dlpack().value(); }
#ifdef DLPACK_MAJOR_VERSION
  Result<ManagedTensorVersioned> try_to_dlpack_versioned() const {
    const auto make = [&](DLManagedTensorVersioned** out) { return tensor_shared_export_versioned(handle(), out); };
    return detail::managed<DLManagedTensorVersioned>("tensor_shared_export_versioned", make);
  }
  ManagedTensorVersioned to_dlpack_versioned() const { return try_to_dlpack_versioned().value(); }
#endif

  /// Takes the lock for this thread. Nobody else has it then, in any process.
  Result<SharedLock> try_lock(Timeout timeout = forever) const {
    const plasma_status status = tensor_shared_lock(handle(), timeout.milliseconds());
    if (status != PLASMA_OK && status != PLASMA_OWNER_DIED) return Error::last(status, "tensor_shared_lock");
    return SharedLock(handle_, status == PLASMA_OWNER_DIED);
  }
  SharedLock lock(Timeout timeout = forever) const { return try_lock(timeout).value(); }

  /// How often the lock was taken and given back; odd while somebody has it.
  Result<std::uint64_t> try_version() const {
    std::uint64_t version = 0;
    return detail::outcome(tensor_shared_version(handle(), &version), "tensor_shared_version", version);
  }
  std::uint64_t version() const { return try_version().value(); }

  /// How many tensors and buffers of it this process has by its client, and that keep it from being frozen.
  Result<std::size_t> try_views() const {
    std::size_t count = 0;
    return detail::outcome(tensor_shared_views(handle(), &count), "tensor_shared_views", count);
  }
  std::size_t views() const { return try_views().value(); }

  /// A copy of all elements as they were at one moment when nobody had the lock, or as they are for who has it.
  template <class T>
  Result<std::vector<T>> try_snapshot(Timeout timeout = forever) const {
    const char* const call = "tensor_shared_snapshot";
    auto about = try_describe();
    if (!about) return about.error();
    const DType its = about->dtype, wanted = dtype_of<T>::value;
    if (its != wanted) {
      return Error(Status::invalid_argument, call, "elements are " + its.name() + ", not " + wanted.name());
    }
    const auto count = element_count({about->shape, static_cast<std::size_t>(about->ndim)});
    std::vector<T> copy(static_cast<std::size_t>(count.value_or(0)));
    // An empty vector may have no place.
    T none{};
    T* const place = copy.empty() ? &none : copy.data();
    const std::size_t size = copy.size() * sizeof(T);
    return detail::outcome(tensor_shared_snapshot(handle(), place, size, timeout.milliseconds()), call, copy);
  }
  template <class T>
  std::vector<T> snapshot(Timeout timeout = forever) const {
    return try_snapshot<T>(timeout).value();
  }

  /// Makes it an ordinary sealed object, which nobody can write any more. Waits so long for others to close it; `busy`
  /// names them.
  Result<void> try_freeze(Timeout timeout = std::chrono::milliseconds(0)) const {
    return detail::outcome(tensor_shared_freeze(handle(), timeout.milliseconds()), "tensor_shared_freeze");
  }
  void freeze(Timeout timeout = std::chrono::milliseconds(0)) const { try_freeze(timeout).value(); }

  /// Lets go of it. What was got of it keeps it open.
  void close() noexcept { handle_.reset(); }

  /// Who has a shared object open, one client a line; a ring, too.
  static Result<std::string> try_holders(const Client& client, const ObjectId& id) {
    return detail::text_of("tensor_shared_holders", [&](char* out, std::size_t size, std::size_t* length) {
      return tensor_shared_holders(client.handle(), id.raw(), out, size, length);
    });
  }
  static std::string holders(const Client& client, const ObjectId& id) { return try_holders(client, id).value(); }

 private:
  std::shared_ptr<tensor_shared> handle_;
};

}  // namespace store_v1
}  // namespace plasma

#endif  // PLASMA_STORE_SHARED_HPP_
