//! Bundles: many named tensors in one object.
#ifndef PLASMA_STORE_BUNDLE_HPP_
#define PLASMA_STORE_BUNDLE_HPP_

#include <plasma_store/options.hpp>
#include <plasma_store/tensor.hpp>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace plasma {
inline namespace store_v1 {

/// What is said beside the tensors of a bundle: texts by texts.
using Texts = std::map<std::string, std::string>;

/// A tensor of the caller's that is to be stored in a bundle: {"weight", {numbers, {2, 3}}}.
struct NamedView {
  /// Not "__metadata__", and nothing that begins with "__pad.".
  std::string name;
  TensorView tensor;
};

/// A tensor of a bundle.
struct NamedTensor {
  std::string name;
  Tensor tensor;
};

/// Tensors by their names, in the order in which they lie: one object, which is byte for byte a safetensors file. It
/// keeps the object's memory, and so does each tensor of it.
///
///     for (const auto& [name, tensor] : client.get_tensors(id)) ...
class Bundle {
 public:
  /// Gives a NamedTensor for each tensor.
  using iterator = detail::IndexIterator<Bundle, NamedTensor>;

  /// Holds nothing: no tensors.
  Bundle() noexcept = default;
  /// Takes over a C handle.
  explicit Bundle(tensor_bundle* handle) noexcept : handle_(handle) {}

  /// The bundle in a buffer, which may go.
  static Result<Bundle> try_from(const Buffer& buffer) {
    tensor_bundle* bundle = nullptr;
    const plasma_status status = tensor_bundle_from_buffer(buffer.handle(), &bundle);
    if (status != PLASMA_OK) return Error::last(status, "tensor_bundle_from_buffer");
    return Bundle(bundle);
  }
  static Bundle from(const Buffer& buffer) { return try_from(buffer).value(); }

  explicit operator bool() const noexcept { return handle_ != nullptr; }
  tensor_bundle* handle() const noexcept { return handle_.get(); }
  tensor_bundle* release() noexcept { return handle_.release(); }

  std::size_t size() const noexcept { return tensor_bundle_size(handle()); }
  bool empty() const noexcept { return size() == 0; }
  iterator begin() const noexcept { return {this, 0}; }
  iterator end() const noexcept { return {this, size()}; }

  /// By number.
  Result<NamedTensor> try_at(std::size_t index) const {
    const char* name = nullptr;
    const plasma_status status = tensor_bundle_name(handle(), index, &name);
    if (status != PLASMA_OK) return Error::last(status, "tensor_bundle_name");
    auto tensor = try_tensor(index);
    if (!tensor) return tensor.error();
    return NamedTensor{name, std::move(*tensor)};
  }
  NamedTensor at(std::size_t index) const { return try_at(index).value(); }
  NamedTensor operator[](std::size_t index) const { return at(index); }

  /// By name.
  Result<Tensor> try_at(std::string_view name) const {
    const std::size_t index = find(name);
    if (index < size()) return try_tensor(index);
    return Error(Status::invalid_argument, "plasma::Bundle::at",
                 "\"" + std::string(name) + "\" is not one of the " + std::to_string(size()) + " tensors");
  }
  Tensor at(std::string_view name) const { return try_at(name).value(); }
  Tensor operator[](std::string_view name) const { return at(name); }
  bool contains(std::string_view name) const noexcept { return find(name) < size(); }

  /// What the writer had to say beside the tensors.
  Texts metadata() const {
    Texts texts;
    const char *key = nullptr, *value = nullptr;
    for (std::size_t i = 0; tensor_bundle_metadata_size(handle()) > i; i++) {
      if (tensor_bundle_metadata(handle(), i, &key, &value) == PLASMA_OK) texts[key] = value;
    }
    return texts;
  }

 private:
  Result<Tensor> try_tensor(std::size_t index) const {
    plasma_buffer* buffer = nullptr;
    const plasma_status status = tensor_bundle_buffer(handle(), index, &buffer);
    if (status != PLASMA_OK) return Error::last(status, "tensor_bundle_buffer");
    return Tensor::try_from(Buffer(buffer));
  }

  /// The number of a tensor; that behind the last where there is none of this name.
  std::size_t find(std::string_view name) const noexcept {
    const char* its_name = nullptr;
    std::size_t index = 0;
    while (tensor_bundle_name(handle(), index, &its_name) == PLASMA_OK && name != its_name) index++;
    return index;
  }

  std::unique_ptr<tensor_bundle, detail::Release> handle_;
};

namespace detail {

/// A bundle to be put as C takes it, good as long as what it was made of.
struct NewBundle {
  std::vector<DLTensor> tensors;
  std::vector<tensor_bundle_item> items;
  std::vector<const char*> keys, values;
  tensor_bundle_options options = sized<tensor_bundle_options>();

  Result<void> add(std::vector<NamedView>& given, const char* call) {
    tensors.reserve(given.size());
    for (auto& [name, tensor] : given) {
      if (auto text = check_text(name, call, "a tensor's name"); !text) return text;
      if (auto fits = tensor.check(); !fits) return Error(fits.status(), call, name + ": " + fits.error().what());
      tensors.push_back(tensor.dlpack());
      items.push_back({name.c_str(), &tensors.back(), 0});
    }
    return {};
  }

  Result<void> say(const Texts& metadata, const char* call) {
    for (const auto& [key, value] : metadata) {
      if (auto text = check_text(key, call, "a key of the metadata"); !text) return text;
      if (auto text = check_text(value, call, "the metadata"); !text) return text;
      keys.push_back(key.c_str());
      values.push_back(value.c_str());
    }
    options.metadata_count = keys.size();
    options.metadata_keys = keys.data();
    options.metadata_values = values.data();
    return {};
  }

  Result<void> set(const CreateOptions& given, const char* call) {
    if (!given.metadata.empty() || !given.dimension_names.empty()) {
      return Error(Status::invalid_argument, call, "of a bundle, the metadata are texts, and dimensions have no names");
    }
    auto create = create_options(given, call);
    if (!create) return create.error();
    options.flags = create->flags;
    options.ttl_ms = create->ttl_ms;
    options.wait_ms = create->wait_ms;
    options.name = create->name;
    return {};
  }
};

}  // namespace detail
}  // namespace store_v1
}  // namespace plasma

#endif  // PLASMA_STORE_BUNDLE_HPP_
