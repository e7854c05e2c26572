//! Tensors: what is put into a store, and what lies in one.
#ifndef PLASMA_STORE_TENSOR_HPP_
#define PLASMA_STORE_TENSOR_HPP_

#include <plasma_store/buffer.hpp>
#include <plasma_store/dtype.hpp>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

namespace plasma {
inline namespace store_v1 {

/// Lengths along each dimension.
using Shape = std::vector<std::int64_t>;

/// How many elements a shape has; nothing where a length is negative, or they are more than can be counted.
inline std::optional<std::int64_t> element_count(span<const std::int64_t> shape) noexcept {
  std::int64_t count = 1;
  bool empty = false;
  for (const std::int64_t length : shape) {
    if (length < 0) return std::nullopt;
    if (length == 0) empty = true;
  }
  if (empty) return 0;
  for (const std::int64_t length : shape) {
    if (__builtin_mul_overflow(count, length, &count)) return std::nullopt;
  }
  return count;
}

/// "[2, 3]"
inline std::string to_string(span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); i++) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

/// Elements by their indices, at any distance from each other; does not own them, and does not check indices.
template <class T, std::size_t Dimensions>
class StridedView {
 public:
  using Numbers = std::array<std::int64_t, Dimensions>;
  using Byte = std::conditional_t<std::is_const_v<T>, const std::uint8_t, std::uint8_t>;

  StridedView(T* first, const Numbers& shape, const Numbers& byte_strides) noexcept
      : first_(first), shape_(shape), byte_strides_(byte_strides) {}

  template <class... Index>
  T& operator()(Index... index) const noexcept {
    static_assert(sizeof...(Index) == Dimensions, "an index for each dimension");
    const Numbers at{static_cast<std::int64_t>(index)...};
    std::int64_t offset = 0;
    for (std::size_t i = 0; i < Dimensions; i++) offset += at[i] * byte_strides_[i];
    return *reinterpret_cast<T*>(reinterpret_cast<Byte*>(first_) + offset);
  }

  /// `count` indices of the first dimension, from `first` on; touches no element.
  StridedView rows(std::int64_t first, std::int64_t count) const noexcept {
    static_assert(Dimensions > 0, "a number has no rows");
    Numbers shape = shape_;
    shape[0] = count;
    auto* const begin = reinterpret_cast<Byte*>(first_) + first * byte_strides_[0];
    return {reinterpret_cast<T*>(begin), shape, byte_strides_};
  }
  /// The same elements with the dimensions in reverse order.
  StridedView transposed() const noexcept {
    StridedView reversed = *this;
    for (std::size_t i = 0; i < Dimensions; i++) {
      reversed.shape_[i] = shape_[Dimensions - 1 - i];
      reversed.byte_strides_[i] = byte_strides_[Dimensions - 1 - i];
    }
    return reversed;
  }

  std::int64_t extent(std::size_t dimension) const noexcept { return shape_[dimension]; }
  const Numbers& shape() const noexcept { return shape_; }
  const Numbers& byte_strides() const noexcept { return byte_strides_; }

 private:
  T* first_;
  Numbers shape_;
  Numbers byte_strides_;
};

/// Which part of a tensor is given to others, and how.
struct ViewOptions {
  /// Elements along each dimension. Nothing: the whole tensor as it lies, whatever the fields below say.
  std::optional<Shape> shape;
  /// From one element to the next along each dimension, in elements. None: row-major without gaps.
  Shape strides;
  /// From the first element of the tensor to that of the view, in elements.
  std::int64_t offset = 0;
  /// Give a copy, writable and in memory of its own.
  bool copy = false;
};

namespace detail {

/// The same for C, good as long as `options` is.
inline Result<tensor_view_options> view_options(const ViewOptions& options) {
  static constexpr std::int64_t none = 0;
  auto made = sized<tensor_view_options>();
  if (options.copy) made.flags = PLASMA_VIEW_COPY;
  if (!options.shape) return made;
  const Shape& shape = *options.shape;
  if (!options.strides.empty() && options.strides.size() != shape.size()) {
    return Error(Status::invalid_argument, "tensor_view",
                 std::to_string(options.strides.size()) + " strides for shape " + to_string(shape));
  }
  made.ndim = static_cast<std::int32_t>(shape.size());
  made.shape = shape.empty() ? &none : shape.data();
  made.strides = options.strides.empty() ? nullptr : options.strides.data();
  made.offset = options.offset;
  return made;
}

}  // namespace detail

/// A tensor in the memory of an object: read in place by anybody, filled in place by who creates it.
class Tensor {
 public:
  /// Holds nothing.
  Tensor() noexcept = default;

  /// The tensor in a buffer.
  static Result<Tensor> try_from(Buffer buffer) {
    Tensor made;
    made.about_ = detail::sized<tensor_description>();
    const plasma_status status = tensor_describe(buffer.handle(), &made.about_);
    made.buffer_ = std::move(buffer);
    return detail::outcome(status, "tensor_describe", made);
  }
  static Tensor from(Buffer buffer) { return try_from(std::move(buffer)).value(); }

  explicit operator bool() const noexcept { return static_cast<bool>(buffer_); }
  Buffer& buffer() & noexcept { return buffer_; }
  const Buffer& buffer() const& noexcept { return buffer_; }
  Buffer buffer() && noexcept { return std::move(buffer_); }
  ObjectId id() const { return buffer_.id(); }

  DType dtype() const noexcept { return about_.dtype; }
  std::size_t ndim() const noexcept { return static_cast<std::size_t>(about_.ndim); }
  /// Like all that does not own: not of a Tensor that ends with the expression.
  span<const std::int64_t> shape() const&& = delete;
  span<const std::int64_t> shape() const& noexcept { return {about_.shape, ndim()}; }
  /// Bytes from one element to the next along each dimension.
  span<const std::int64_t> byte_strides() const&& = delete;
  span<const std::int64_t> byte_strides() const& noexcept { return {about_.byte_strides, ndim()}; }
  /// Number of elements.
  std::size_t size() const noexcept { return static_cast<std::size_t>(element_count(shape()).value_or(0)); }
  bool is_writable() const noexcept { return buffer_.is_writable(); }

  /// Whether elements lie one after the other, the last index first.
  bool is_row_major() const noexcept { return dtype().is_packed() || is_dense(true); }
  /// Whether they lie so with the first index first.
  bool is_column_major() const noexcept { return !dtype().is_packed() && is_dense(false); }

  /// First element, whatever its type.
  const void* data() const&& = delete;
  const void* data() const& noexcept { return *this ? about_.data : nullptr; }

  /// All elements of a row-major tensor.
  template <class T>
  Result<span<const T>> try_values() const&& = delete;
  template <class T>
  Result<span<const T>> try_values() const& {
    if (auto fits = check<T>("values"); !fits) return fits.error();
    return span<const T>(static_cast<const T*>(data()), size());
  }
  template <class T>
  span<const T> values() const&& = delete;
  template <class T>
  span<const T> values() const& {
    return try_values<T>().value();
  }

  /// The same for writing, while it is writable. Not to be kept beyond the seal.
  template <class T>
  Result<span<T>> try_mutable_values() & {
    if (auto fits = check<T>("mutable_values"); !fits) return fits.error();
    if (!is_writable()) return read_only("mutable_values");
    return span<T>(reinterpret_cast<T*>(about_.data), size());
  }
  template <class T>
  span<T> mutable_values() & {
    return try_mutable_values<T>().value();
  }

  /// Elements by index, in any layout.
  template <class T, std::size_t Dimensions>
  Result<StridedView<const T, Dimensions>> try_view() const&& = delete;
  template <class T, std::size_t Dimensions>
  Result<StridedView<const T, Dimensions>> try_view() const& {
    if (auto fits = check_view<T, Dimensions>("view"); !fits) return fits.error();
    return strided<const T, Dimensions>(about_);
  }
  template <class T, std::size_t Dimensions>
  StridedView<const T, Dimensions> view() const&& = delete;
  template <class T, std::size_t Dimensions>
  StridedView<const T, Dimensions> view() const& {
    return try_view<T, Dimensions>().value();
  }

  /// The same for writing, while it is writable. Not to be kept beyond the seal.
  template <class T, std::size_t Dimensions>
  Result<StridedView<T, Dimensions>> try_mutable_view() & {
    if (auto fits = check_view<T, Dimensions>("mutable_view"); !fits) return fits.error();
    if (!is_writable()) return read_only("mutable_view");
    return strided<T, Dimensions>(about_);
  }
  template <class T, std::size_t Dimensions>
  StridedView<T, Dimensions> mutable_view() & {
    return try_mutable_view<T, Dimensions>().value();
  }

  /// The bytes of all elements, of any type, also one that C++ does not have, in the order in which they lie.
  Result<span<const std::uint8_t>> try_bytes() const&& = delete;
  Result<span<const std::uint8_t>> try_bytes() const& {
    if (!*this) return wrong("bytes", "there is no tensor");
    if (!is_row_major() && !is_column_major()) return wrong("bytes", "there are gaps between the elements");
    return span<const std::uint8_t>(about_.data, dtype().bytes_of(size()));
  }
  span<const std::uint8_t> bytes() const&& = delete;
  span<const std::uint8_t> bytes() const& { return try_bytes().value(); }

  /// The name of a dimension, "" where it has none.
  Result<std::string> try_dimension_name(std::size_t dimension) const {
    const auto number = static_cast<std::int32_t>(std::min<std::size_t>(dimension, INT32_MAX));
    return detail::text_of("tensor_dimension_name", [&](char* out, std::size_t size, std::size_t* length) {
      return tensor_dimension_name(buffer_.handle(), number, out, size, length);
    });
  }
  std::string dimension_name(std::size_t dimension) const { return try_dimension_name(dimension).value(); }

  /// For a library that takes DLPack, with a hold of its own.
  ManagedTensor to_dlpack() const { return buffer_.to_dlpack(); }
  /// Another view of the elements: transposed, with gaps, of another shape; or a copy. Reads none but for a copy.
  Result<ManagedTensor> try_to_dlpack(const ViewOptions& view) const {
    auto wanted = detail::view_options(view);
    if (!wanted) return wanted.error();
    const auto make = [&](DLManagedTensor** out) { return tensor_view(buffer_.handle(), &*wanted, out); };
    return detail::managed<DLManagedTensor>("tensor_view", make);
  }
  ManagedTensor to_dlpack(const ViewOptions& view) const { return try_to_dlpack(view).value(); }
  /// `count` indices of the first dimension, from `first` on; costs the same for a tensor of any size.
  Result<ManagedTensor> try_rows_to_dlpack(std::uint64_t first, std::uint64_t count) const {
    const auto make = [&](DLManagedTensor** out) { return tensor_rows(buffer_.handle(), first, count, out); };
    return detail::managed<DLManagedTensor>("tensor_rows", make);
  }
  ManagedTensor rows_to_dlpack(std::uint64_t first, std::uint64_t count) const {
    return try_rows_to_dlpack(first, count).value();
  }

#ifdef DLPACK_MAJOR_VERSION
  /// The same with the struct of DLPack 1.x, whose flags say whether it may be written and whether it is a copy.
  ManagedTensorVersioned to_dlpack_versioned() const { return buffer_.to_dlpack_versioned(); }
  Result<ManagedTensorVersioned> try_to_dlpack_versioned(const ViewOptions& view) const {
    auto wanted = detail::view_options(view);
    if (!wanted) return wanted.error();
    const auto make = [&](DLManagedTensorVersioned** out) {
      return tensor_view_versioned(buffer_.handle(), &*wanted, out);
    };
    return detail::managed<DLManagedTensorVersioned>("tensor_view_versioned", make);
  }
  ManagedTensorVersioned to_dlpack_versioned(const ViewOptions& view) const {
    return try_to_dlpack_versioned(view).value();
  }
  Result<ManagedTensorVersioned> try_rows_to_dlpack_versioned(std::uint64_t first, std::uint64_t count) const {
    const auto make = [&](DLManagedTensorVersioned** out) {
      return tensor_rows_versioned(buffer_.handle(), first, count, out);
    };
    return detail::managed<DLManagedTensorVersioned>("tensor_rows_versioned", make);
  }
  ManagedTensorVersioned rows_to_dlpack_versioned(std::uint64_t first, std::uint64_t count) const {
    return try_rows_to_dlpack_versioned(first, count).value();
  }
#endif

 private:
  static Error wrong(const char* call, const std::string& message) {
    return Error(Status::invalid_argument, std::string("plasma::Tensor::") + call, message);
  }
  static Error read_only(const char* call) { return wrong(call, "the tensor is read-only"); }

  bool is_dense(bool last_first) const noexcept {
    std::int64_t expected = static_cast<std::int64_t>(dtype().element_bytes());
    if (size() == 0) return true;
    for (std::size_t i = 0; i < ndim(); i++) {
      const std::size_t dimension = last_first ? ndim() - 1 - i : i;
      const std::int64_t length = about_.shape[dimension];
      if (length != 1 && about_.byte_strides[dimension] != expected) return false;
      expected *= length;
    }
    return true;
  }

  template <class T>
  Result<void> check_type(const char* call) const {
    static_assert(std::is_trivially_copyable_v<T> && !std::is_const_v<T>, "elements are plain bits");
    if (!*this) return wrong(call, "there is no tensor");
    if (dtype() != dtype_of<T>::value) {
      return wrong(call, "elements are " + dtype().name() + ", not " + dtype_of<T>::value.name());
    }
    const auto place = reinterpret_cast<std::uintptr_t>(about_.data) % alignof(T);
    if (place == 0 || size() == 0) return {};
    return wrong(call, "elements lie " + std::to_string(place) + " bytes behind a multiple of " +
                           std::to_string(alignof(T)) + ": to_dlpack() gives a copy");
  }

  template <class T>
  Result<void> check(const char* call) const {
    auto type = check_type<T>(call);
    if (!type || is_row_major()) return type;
    return wrong(call, "the tensor of shape " + to_string(shape()) + " is not row-major: use view()");
  }

  template <class T, std::size_t Dimensions>
  Result<void> check_view(const char* call) const {
    auto type = check_type<T>(call);
    if (!type || ndim() == Dimensions) return type;
    return wrong(call, "shape " + to_string(shape()) + " has not " + std::to_string(Dimensions) + " dimensions");
  }

  template <class T, std::size_t Dimensions>
  static StridedView<T, Dimensions> strided(const tensor_description& about) noexcept {
    typename StridedView<T, Dimensions>::Numbers shape{}, byte_strides{};
    for (std::size_t i = 0; i < Dimensions; i++) {
      shape[i] = about.shape[i];
      byte_strides[i] = about.byte_strides[i];
    }
    return {reinterpret_cast<T*>(about.data), shape, byte_strides};
  }

  Buffer buffer_;
  tensor_description about_{};
};

/// A tensor of the caller's, in any memory of this process, to be read during a call.
class TensorView {
 public:
  /// Without `strides` (in elements) row-major without gaps.
  TensorView(const void* data, DType dtype, Shape shape, Shape strides = {})
      : data_(data), dtype_(dtype), shape_(std::move(shape)), strides_(std::move(strides)) {}

  /// A container's elements, which are row-major in `shape`.
  template <class Container, class T = std::remove_cv_t<detail::ElementOf<const Container>>>
  TensorView(const Container& values, Shape shape)
      : TensorView(std::data(values), dtype_of<T>::value, std::move(shape)) {
    count_ = std::size(values);
  }

  /// Whether there are as many values as the shape has, and as many strides; else there is nothing to give to C.
  Result<void> check() const {
    const auto count = element_count(shape_);
    if (count_ && (!count || static_cast<std::size_t>(*count) != *count_)) {
      return Error(Status::invalid_argument, "plasma::TensorView",
                   std::to_string(*count_) + " values for a tensor of shape " + to_string(shape_));
    }
    if (strides_.empty() || strides_.size() == shape_.size()) return {};
    return Error(Status::invalid_argument, "plasma::TensorView",
                 std::to_string(strides_.size()) + " strides for shape " + to_string(shape_));
  }

  /// As DLPack has it; good as long as this is.
  DLTensor dlpack() noexcept {
    DLTensor tensor{};
    tensor.data = const_cast<void*>(data_);
    tensor.device = {kDLCPU, 0};
    tensor.ndim = static_cast<std::int32_t>(shape_.size());
    tensor.dtype = dtype_;
    tensor.shape = shape_.data();
    tensor.strides = strides_.empty() ? nullptr : strides_.data();
    return tensor;
  }

 private:
  const void* data_;
  DType dtype_;
  Shape shape_;
  Shape strides_;
  std::optional<std::size_t> count_;
};

}  // namespace store_v1
}  // namespace plasma

#endif  // PLASMA_STORE_TENSOR_HPP_
