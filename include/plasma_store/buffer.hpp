//! An object's bytes in this process.
#ifndef PLASMA_STORE_BUFFER_HPP_
#define PLASMA_STORE_BUFFER_HPP_

#include <plasma_store/values.hpp>

#include <memory>
#include <string_view>

namespace plasma {
inline namespace store_v1 {

/// A DLPack tensor and the duty to let go of it; `release()` hands that to somebody else, who calls its deleter.
using ManagedTensor = std::unique_ptr<DLManagedTensor, detail::Release>;
#ifdef DLPACK_MAJOR_VERSION
/// The same with the struct of DLPack 1.x, whose flags say whether it may be written.
using ManagedTensorVersioned = std::unique_ptr<DLManagedTensorVersioned, detail::Release>;
#endif

namespace detail {

/// The DLPack tensor that a call makes.
template <class Managed, class Call>
Result<std::unique_ptr<Managed, Release>> managed(const char* name, Call call) {
  Managed* tensor = nullptr;
  const plasma_status status = call(&tensor);
  if (status != PLASMA_OK) return Error::last(status, name);
  return std::unique_ptr<Managed, Release>(tensor);
}

}  // namespace detail

/// The memory of one object: readable until this ends, whatever becomes of client, object and store.
class Buffer {
 public:
  /// Holds nothing.
  Buffer() noexcept = default;
  /// Takes over a C handle.
  explicit Buffer(plasma_buffer* handle) noexcept : handle_(handle) {}

  explicit operator bool() const noexcept { return handle_ != nullptr; }
  plasma_buffer* handle() const noexcept { return handle_.get(); }
  plasma_buffer* release() noexcept { return handle_.release(); }

  std::size_t size() const noexcept { return plasma_buffer_size(handle()); }
  /// Like all that does not own: not of a Buffer that ends with the expression.
  span<const std::uint8_t> data() const&& = delete;
  span<const std::uint8_t> data() const& noexcept { return {plasma_buffer_data(handle()), size()}; }
  std::string_view text() const&& = delete;
  std::string_view text() const& noexcept { return {reinterpret_cast<const char*>(data().data()), size()}; }
  /// The user's metadata.
  span<const std::uint8_t> metadata() const&& = delete;
  span<const std::uint8_t> metadata() const& noexcept {
    return {plasma_buffer_metadata(handle()), static_cast<std::size_t>(plasma_buffer_metadata_size(handle()))};
  }

  /// Whether the object is being created, or was got to be changed in this process only.
  bool is_writable() const noexcept { return plasma_buffer_mutable_data(handle()) != nullptr; }
  /// Whether the kernel keeps everybody from changing the object, its producer included.
  bool is_immutable() const noexcept { return plasma_buffer_is_immutable(handle()); }
  /// The bytes for writing; none when it is not writable. Not to be kept beyond the seal.
  span<std::uint8_t> mutable_data() & noexcept {
    std::uint8_t* data = plasma_buffer_mutable_data(handle());
    return {data, data == nullptr ? 0 : size()};
  }

  /// Copies bytes to `offset`, faster than memcpy into shared memory.
  Result<void> try_write(std::uint64_t offset, BytesView bytes) {
    return detail::outcome(plasma_buffer_write(handle(), offset, bytes.data(), bytes.size()), "plasma_buffer_write");
  }
  void write(std::uint64_t offset, BytesView bytes) { try_write(offset, bytes).value(); }

  Result<ObjectId> try_id() const {
    plasma_object_id id{};
    if (const plasma_status status = plasma_buffer_id(handle(), &id); status != PLASMA_OK) {
      return Error::last(status, "plasma_buffer_id");
    }
    return ObjectId(id);
  }
  ObjectId id() const { return try_id().value(); }

  /// The tensor in these bytes, for a library that takes DLPack. It has a hold of its own.
  Result<ManagedTensor> try_to_dlpack() const {
    const auto make = [&](DLManagedTensor** out) { return tensor_from_buffer(handle(), out); };
    return detail::managed<DLManagedTensor>("tensor_from_buffer", make);
  }
  ManagedTensor to_dlpack() const { return try_to_dlpack().value(); }

#ifdef DLPACK_MAJOR_VERSION
  Result<ManagedTensorVersioned> try_to_dlpack_versioned() const {
    const auto make = [&](DLManagedTensorVersioned** out) { return tensor_from_buffer_versioned(handle(), out); };
    return detail::managed<DLManagedTensorVersioned>("tensor_from_buffer_versioned", make);
  }
  ManagedTensorVersioned to_dlpack_versioned() const { return try_to_dlpack_versioned().value(); }
#endif

 private:
  std::unique_ptr<plasma_buffer, detail::Release> handle_;
};

}  // namespace store_v1
}  // namespace plasma

#endif  // PLASMA_STORE_BUFFER_HPP_
