//! What is known of objects: lists, digests, and what became of those that were not waited for.
#ifndef PLASMA_STORE_OBJECTS_HPP_
#define PLASMA_STORE_OBJECTS_HPP_

#include <plasma_store/values.hpp>

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <vector>

namespace plasma {
inline namespace store_v1 {

/// The digest that old Plasma has of an object.
using Digest = std::array<std::uint8_t, 8>;

enum class ObjectState : std::uint32_t { created = PLASMA_STATE_CREATED, sealed = PLASMA_STATE_SEALED };

/// What is known of one object.
struct ObjectInfo {
  ObjectId id;
  ObjectState state = ObjectState::created;
  std::uint64_t data_size = 0;
  /// With what the library appends for tensors.
  std::uint64_t metadata_size = 0;
  std::chrono::system_clock::time_point created;
  /// From create to seal; nothing while it is not sealed.
  std::optional<std::chrono::seconds> construct_duration;
  /// Connections that hold it.
  std::uint32_t ref_count = 0;
  bool pinned = false;

  static ObjectInfo from(const plasma_object_info& info) {
    ObjectInfo made;
    made.id = info.id;
    made.state = static_cast<ObjectState>(info.state);
    made.data_size = info.data_size;
    made.metadata_size = info.metadata_size;
    made.created = std::chrono::system_clock::time_point(std::chrono::seconds(info.create_time));
    if (info.construct_duration >= 0) made.construct_duration = std::chrono::seconds(info.construct_duration);
    made.ref_count = info.ref_count;
    made.pinned = info.pinned;
    return made;
  }
};

/// What a list found. It does not change, and keeps no object alive.
class ObjectList {
 public:
  /// Gives an ObjectInfo for each object.
  using iterator = detail::IndexIterator<ObjectList, ObjectInfo>;

  /// Holds nothing: an empty list.
  ObjectList() noexcept = default;
  /// Takes over a C handle.
  explicit ObjectList(plasma_object_list* handle) noexcept : handle_(handle) {}

  plasma_object_list* handle() const noexcept { return handle_.get(); }
  plasma_object_list* release() noexcept { return handle_.release(); }

  std::size_t size() const noexcept { return plasma_object_list_size(handle()); }
  bool empty() const noexcept { return size() == 0; }
  iterator begin() const noexcept { return {this, 0}; }
  iterator end() const noexcept { return {this, size()}; }

  Result<ObjectInfo> try_at(std::size_t index) const {
    auto info = detail::sized<plasma_object_info>();
    const plasma_status status = plasma_object_list_get(handle(), index, &info);
    if (status != PLASMA_OK) return Error::last(status, "plasma_object_list_get");
    return ObjectInfo::from(info);
  }
  ObjectInfo at(std::size_t index) const { return try_at(index).value(); }
  ObjectInfo operator[](std::size_t index) const { return at(index); }

 private:
  std::unique_ptr<plasma_object_list, detail::Release> handle_;
};

/// An object that could not be put or sealed without waiting, and why.
struct FlushFailure {
  ObjectId id;
  Status status;
};

/// What a flush tells.
struct Flushed {
  /// How many could not be, also those that `failures` has no room for.
  std::size_t failed = 0;
  std::vector<FlushFailure> failures;
};

}  // namespace store_v1
}  // namespace plasma

#endif  // PLASMA_STORE_OBJECTS_HPP_
