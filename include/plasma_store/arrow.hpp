//! Objects as Arrow's C++ types: arrow::Buffer and arrow::Tensor over the store's memory, without a copy.
//!
//!     ARROW_ASSIGN_OR_RAISE(auto buffer, plasma::create_arrow_buffer(client, id, size));    // fill, then
//!     client.seal(id) ARROW_ASSIGN_OR_RAISE(auto tensor, plasma::get_arrow_tensor(client, id));
//!
//! For programs that have Arrow's headers and link with libarrow; with an Arrow from 22 on that takes C++20. What can
//! fail returns arrow::Result, as Arrow's own calls do. Buffers and tensors keep the object as long as anybody has
//! them.
#ifndef PLASMA_STORE_ARROW_HPP_
#define PLASMA_STORE_ARROW_HPP_

#include <arrow/buffer.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/tensor.h>
#include <arrow/type.h>
#include <plasma_store.hpp>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

namespace plasma {
inline namespace store_v1 {

/// An error as Arrow says it, with the same message.
inline ::arrow::Status to_arrow(const Error& error) {
  switch (error.status()) {
    case Status::object_exists: return ::arrow::Status::AlreadyExists(error.what());
    case Status::object_not_found: return ::arrow::Status::KeyError(error.what());
    case Status::store_full: return ::arrow::Status::CapacityError(error.what());
    case Status::interrupted: return ::arrow::Status::Cancelled(error.what());
    case Status::out_of_memory: return ::arrow::Status::OutOfMemory(error.what());
    case Status::unsupported: return ::arrow::Status::NotImplemented(error.what());
    case Status::invalid_argument:
    case Status::corrupt: return ::arrow::Status::Invalid(error.what());
    default: return ::arrow::Status::IOError(error.what());
  }
}

/// An object's memory as an Arrow buffer, which is mutable where the object was writable when this was made.
class ArrowBuffer final : public ::arrow::Buffer {
 public:
  explicit ArrowBuffer(::plasma::Buffer object)
      : ::arrow::Buffer(object.data().data(), static_cast<std::int64_t>(object.size())), object_(std::move(object)) {
    is_mutable_ = object_.is_writable();
  }

 private:
  ::plasma::Buffer object_;
};

/// Gives a buffer to Arrow.
inline std::shared_ptr<::arrow::Buffer> to_arrow(Buffer buffer) {
  return std::make_shared<ArrowBuffer>(std::move(buffer));
}

/// Creates an object to be filled and then sealed. Its buffer says it is mutable also after the seal: do not write it
/// then.
inline ::arrow::Result<std::shared_ptr<::arrow::Buffer>> create_arrow_buffer(const Client& client, const ObjectId& id,
                                                                             std::int64_t size,
                                                                             const CreateOptions& options = {}) {
  if (size < 0) return ::arrow::Status::Invalid("create_arrow_buffer: a size of ", size);
  auto buffer = client.try_create(id, static_cast<std::uint64_t>(size), options);
  if (!buffer) return to_arrow(buffer.error());
  return to_arrow(std::move(*buffer));
}

/// Gets an object, waiting for it.
inline ::arrow::Result<std::shared_ptr<::arrow::Buffer>> get_arrow_buffer(const Client& client, const ObjectId& id,
                                                                          Timeout timeout = forever,
                                                                          const GetOptions& options = {}) {
  auto buffer = client.try_get(id, timeout, options);
  if (!buffer) return to_arrow(buffer.error());
  return to_arrow(std::move(*buffer));
}

/// Arrow's type for an element type; NULL where its tensors have none.
inline std::shared_ptr<::arrow::DataType> to_arrow(DType type) {
  if (type == dtype_of<std::int8_t>::value) return ::arrow::int8();
  if (type == dtype_of<std::int16_t>::value) return ::arrow::int16();
  if (type == dtype_of<std::int32_t>::value) return ::arrow::int32();
  if (type == dtype_of<std::int64_t>::value) return ::arrow::int64();
  if (type == dtype_of<std::uint8_t>::value) return ::arrow::uint8();
  if (type == dtype_of<std::uint16_t>::value) return ::arrow::uint16();
  if (type == dtype_of<std::uint32_t>::value) return ::arrow::uint32();
  if (type == dtype_of<std::uint64_t>::value) return ::arrow::uint64();
  if (type == dtype_of<float16>::value) return ::arrow::float16();
  if (type == dtype_of<float>::value) return ::arrow::float32();
  if (type == dtype_of<double>::value) return ::arrow::float64();
  return nullptr;
}

/// The element type of an Arrow type; the error names one that no tensor has.
inline ::arrow::Result<DType> from_arrow(const ::arrow::DataType& type) {
  for (const std::uint8_t bits : {8, 16, 32, 64}) {
    for (const TypeCode code : {TypeCode::integer, TypeCode::unsigned_integer, TypeCode::floating}) {
      const auto known = to_arrow(DType(code, bits));
      if (known != nullptr && known->Equals(type)) return DType(code, bits);
    }
  }
  return ::arrow::Status::NotImplemented("tensors of ", type.ToString());
}

namespace detail {

/// Where no dimension has a name, Arrow's own calls want no list of them.
inline std::vector<std::string> names_or_none(std::vector<std::string> names) {
  const bool some = std::any_of(names.begin(), names.end(), [](const std::string& name) { return !name.empty(); });
  return some ? std::move(names) : std::vector<std::string>();
}

inline ::arrow::Result<std::vector<std::string>> names_of(const Tensor& tensor) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < tensor.ndim(); i++) {
    auto name = tensor.try_dimension_name(i);
    if (!name) return to_arrow(name.error());
    names.push_back(std::move(*name));
  }
  return names_or_none(std::move(names));
}

/// Bytes from the first element to the end of the last.
inline std::int64_t extent_of(const Tensor& tensor) {
  if (tensor.size() == 0) return 0;
  auto extent = static_cast<std::int64_t>(tensor.dtype().element_bytes());
  for (std::size_t i = 0; i < tensor.ndim(); i++) extent += (tensor.shape()[i] - 1) * tensor.byte_strides()[i];
  return extent;
}

}  // namespace detail

/// The Arrow tensor in an object, with the names of its dimensions. Of other element types the error names the type.
inline ::arrow::Result<std::shared_ptr<::arrow::Tensor>> to_arrow(Tensor tensor) {
  const auto type = to_arrow(tensor.dtype());
  if (type == nullptr) {
    return ::arrow::Status::NotImplemented("Arrow has no tensors of ", tensor.dtype().name(), ": use plasma::Tensor");
  }
  const Shape shape(tensor.shape().begin(), tensor.shape().end());
  const Shape strides(tensor.byte_strides().begin(), tensor.byte_strides().end());
  ARROW_ASSIGN_OR_RAISE(const auto names, detail::names_of(tensor));
  const std::int64_t extent = detail::extent_of(tensor);
  const auto first = static_cast<const std::uint8_t*>(tensor.data()) - tensor.buffer().data().data();
  const auto data = ::arrow::SliceBuffer(to_arrow(std::move(tensor).buffer()), extent == 0 ? 0 : first, extent);
  return ::arrow::Tensor::Make(type, data, shape, strides, names);
}

/// Gets a tensor without a copy, waiting for it.
inline ::arrow::Result<std::shared_ptr<::arrow::Tensor>> get_arrow_tensor(const Client& client, const ObjectId& id,
                                                                          Timeout timeout = forever,
                                                                          const GetOptions& options = {}) {
  auto tensor = client.try_get_tensor(id, timeout, options);
  if (!tensor) return to_arrow(tensor.error());
  return to_arrow(std::move(*tensor));
}

/// Stores a copy of a tensor, with the names of its dimensions.
inline ::arrow::Status put_arrow_tensor(const Client& client, const ObjectId& id, const ::arrow::Tensor& tensor,
                                        const CreateOptions& options = {}) {
  ARROW_ASSIGN_OR_RAISE(const DType type, from_arrow(*tensor.type()));
  const auto width = static_cast<std::int64_t>(type.element_bytes());
  Shape strides = tensor.strides();
  for (std::int64_t& stride : strides) {
    if (stride % width != 0) return ::arrow::Status::Invalid("a stride of ", stride, " bytes for ", type.name());
    stride /= width;
  }
  CreateOptions wanted = options;
  if (auto names = detail::names_or_none(tensor.dim_names()); !names.empty()) wanted.dimension_names = std::move(names);
  const auto put = client.try_put_tensor(id, TensorView(tensor.raw_data(), type, tensor.shape(), strides), wanted);
  return put ? ::arrow::Status::OK() : to_arrow(put.error());
}

}  // namespace store_v1
}  // namespace plasma

#endif  // PLASMA_STORE_ARROW_HPP_
