//! Every handle and call of plasma_store.hpp, in a store that lives in this program. Ends with "faces: ok".
#include "check.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <set>
#include <sstream>
#include <thread>
#include <unordered_set>

#if defined(__cpp_lib_span)
#include <span>
#endif

// In bundles.cpp.
void bundles_and_names(const plasma::Client& client);
// In rings.cpp.
void rings_and_shared(const std::string& socket);

namespace {

using namespace std::chrono_literals;
using plasma::Client;
using plasma::ObjectId;
using plasma::Status;
using plasma::Timeout;

// --- values

static_assert(plasma::forever.milliseconds() == -1);
static_assert(Timeout(0ms).milliseconds() == 0);
static_assert(Timeout(-5s).milliseconds() == 0);
static_assert(Timeout(1ns).milliseconds() == 1);
static_assert(Timeout(1500us).milliseconds() == 2);
static_assert(Timeout(2min).milliseconds() == 120000);
static_assert(Timeout(std::chrono::hours::max()).milliseconds() == -1);
static_assert(Timeout(std::chrono::duration<double>(0.0005)).milliseconds() == 1);
static_assert(!std::is_copy_constructible_v<Client> && std::is_nothrow_move_constructible_v<Client>);
static_assert(!std::is_copy_constructible_v<plasma::Buffer> && std::is_nothrow_move_constructible_v<plasma::Buffer>);
static_assert(!std::is_copy_constructible_v<plasma::Tensor> && std::is_move_assignable_v<plasma::Tensor>);
static_assert(plasma::DType(plasma::TypeCode::float4_e2m1fn, 4).bytes_of(5) == 3);
static_assert(plasma::DType(plasma::TypeCode::float6_e2m3fn, 6).bytes_of(5) == 4);
static_assert(plasma::DType(plasma::TypeCode::floating, 32).bytes_of(5) == 20);
static_assert(plasma::dtype_of<long long>::value == plasma::DType(plasma::TypeCode::integer, 64));

void ids() {
  const ObjectId id = ObjectId::from_name("matrix");
  plasma_object_id of_c{};
  CHECK(plasma_object_id_from_name(nullptr, "matrix", &of_c) == PLASMA_OK && id == ObjectId(of_c));
  CHECK(id != ObjectId::from_name("matrix", "examples"));
  CHECK(ObjectId::from_hex(id.hex()) == id && id.hex().size() == 40);
  CHECK(ObjectId::from_bytes(id.bytes()) == id && ObjectId::from_bytes(std::string(20, '1')).bytes()[19] == '1');
  CHECK(ObjectId() < id && ObjectId::random() != ObjectId::random());
  std::ostringstream printed;
  printed << id;
  CHECK(printed.str() == id.hex());
  const std::unordered_set<ObjectId> hashed{id, id, ObjectId()};
  const std::set<ObjectId> ordered{id, id, ObjectId()};
  CHECK(hashed.size() == 2 && ordered.size() == 2 && hashed.count(id) == 1);
}

void ids_that_are_none() {
  CHECK(ObjectId::try_from_hex("12").status() == Status::invalid_argument);
  CHECK(ObjectId::try_from_hex(std::string("a\0b", 3)).status() == Status::invalid_argument);
  CHECK(thrown([] { ObjectId::from_bytes("nineteen bytes are "); }) == Status::invalid_argument);
  const auto cut = ObjectId::try_from_name(std::string("a\0b", 3));
  CHECK(!cut && contains(cut.error().what(), "zero byte at 1"));
}

void spans() {
  std::vector<float> numbers{1, 2, 3};
  const plasma::span<float> some(numbers);
  const plasma::span<const float> fixed = some;
  CHECK(fixed.size() == 3 && fixed.back() == 3 && fixed.subspan(1, 1).front() == 2 && fixed.size_bytes() == 12);
  CHECK(std::accumulate(fixed.begin(), fixed.end(), 0.0F) == 6 && plasma::span<int>().empty());
  CHECK(plasma::BytesView("text").size() == 4 && plasma::BytesView(numbers).size() == 12);
#if defined(__cpp_lib_span)
  const std::span<const float> standard = fixed;
  std::span<float> writable = some;
  writable[0] = 9;
  CHECK(standard[0] == 9 && plasma::span<const float>(standard).size() == 3);
#endif
#if defined(__cpp_lib_ranges)
  static_assert(std::ranges::borrowed_range<plasma::span<float>> && std::ranges::contiguous_range<plasma::span<float>>);
#endif
}

// --- connecting, and handles that hold nothing

void connecting(const std::string& nowhere) {
  const auto refused = Client::try_connect(nowhere);
  CHECK(refused.status() == Status::connect_failed && contains(refused.error().what(), nowhere));
  CHECK(contains(refused.error().what(), "plasma_connect: "));
  CHECK(thrown([&] { Client::connect(nowhere); }) == Status::connect_failed);
  CHECK(thrown([&] { Client::connect(std::string("/tmp/a\0b", 8)); }) == Status::invalid_argument);
  plasma::ConnectOptions options;
  options.timeout = 1ms;
  options.copy_threads = 100000;
  CHECK(Client::try_connect(nowhere, options).status() == Status::invalid_argument);
  CHECK(plasma::abi_version() >= PLASMA_ABI_VERSION && std::string(plasma::version()) == PLASMA_VERSION);
  CHECK(std::string(plasma::to_string(Status::timeout)) == plasma_status_string(PLASMA_TIMEOUT));
}

// Whether values can be had: not of a tensor that is gone at the end of the line.
template <class Tensor, class = void>
constexpr bool gives_values = false;
template <class Tensor>
constexpr bool gives_values<Tensor, std::void_t<decltype(std::declval<Tensor>().template values<float>())>> = true;

void handles_that_hold_nothing(Client client) {
  const Client taken = std::move(client);
  CHECK(taken && !client);
  CHECK(client.try_contains(ObjectId()).status() == Status::invalid_argument);
  client.interrupt();
  plasma::Buffer buffer;
  CHECK(!buffer && buffer.data().empty() && buffer.mutable_data().empty() && buffer.metadata().empty());
  CHECK(buffer.try_id().status() == Status::invalid_argument && buffer.text().empty() && !buffer.is_writable());
  CHECK(buffer.try_write(0, "x").status() == Status::invalid_argument && !buffer.try_to_dlpack());
  plasma::Tensor tensor;
  CHECK(!tensor && tensor.data() == nullptr && !tensor.try_values<float>() && !tensor.try_bytes());
  static_assert(!gives_values<plasma::Tensor> && gives_values<plasma::Tensor&>);
  CHECK(!plasma::Tensor::try_from(plasma::Buffer()) && plasma::ObjectList().empty());
  CHECK(!plasma::Subscription().try_next(0ms) && plasma::Subscription().fd() == -1);
  CHECK(plasma::Store().socket().empty() && plasma::Store().try_stop());
}

// --- objects

void objects(const Client& client) {
  const ObjectId id = ObjectId::random();
  plasma::CreateOptions options;
  options.metadata = "about";
  plasma::Buffer created = client.create(id, 11, options);
  CHECK(created.is_writable() && created.id() == id && created.mutable_data().size() == 11);
  created.write(0, "hello");
  created.write(5, std::array<char, 6>{' ', 'w', 'o', 'r', 'l', 'd'});
  CHECK(created.try_write(6, "too long").status() == Status::invalid_argument);
  CHECK(client.try_get(id, 0ms).status() == Status::timeout && !client.contains(id));
  client.seal(id);
  CHECK(!created.is_writable() && created.mutable_data().empty());
  CHECK(created.try_write(0, "x").status() == Status::object_already_sealed);
  const plasma::Buffer got = client.get(id, 0ms);
  CHECK(got.text() == "hello world" && got.metadata().size() == 5 && got.metadata()[0] == 'a');
  CHECK(!got.is_writable() && client.contains(id) && client.try_seal(id).status() == Status::object_already_sealed);
  CHECK(client.hash(id) != plasma::Digest{});
  CHECK(thrown([&] { client.put(id, "again"); }) == Status::object_exists);
  CHECK(client.remove(id) == std::vector<Status>{Status::object_in_use});
}

void copies_are_private(const Client& client) {
  const ObjectId id = ObjectId::random();
  client.put(id, "shared");
  plasma::GetOptions options;
  options.private_copy = true;
  plasma::Buffer mine = client.get(id, 0ms, options);
  mine.mutable_data()[0] = 'S';
  const plasma::Buffer theirs = client.get(id);
  CHECK(mine.text() == "Shared" && theirs.text() == "shared");
}

void immutable(const Client& client) {
  const ObjectId id = ObjectId::random();
  plasma::CreateOptions options;
  options.immutable = true;
  plasma::Buffer buffer = client.create(id, 4, options);
  buffer.write(0, "kept");
  CHECK(!buffer.is_immutable() && client.try_seal(id).status() == Status::busy);
  buffer = plasma::Buffer();
  client.seal(id);
  const plasma::Buffer kept = client.get(id);
  CHECK(kept.is_immutable() && kept.text() == "kept" && !plasma::Buffer().is_immutable());
}

void several(const Client& client) {
  const ObjectId first = ObjectId::random(), second = ObjectId::random(), missing = ObjectId::random();
  const ObjectId named = ObjectId::from_name("of a batch");
  std::vector<plasma::PutItem> items{{first, "1", {}}, {second, "22", "m"}, {named, "3", {}, "of another"}};
  CHECK(client.try_put_batch(items).status() == Status::invalid_argument);
  items[2].name = "of a batch";
  client.put_batch(items);
  CHECK(client.name_of(named) == "of a batch" && client.name_of(first).empty());
  CHECK(client.try_put_batch(items).status() == Status::object_exists);
  const std::vector<ObjectId> both{second, first};
  const auto buffers = client.get_all(both, 0ms);
  CHECK(buffers.size() == 2 && buffers[0].text() == "22" && buffers[1].text() == "1");
  const auto some = client.get_some({first, missing}, 1ms);
  CHECK(some.size() == 2 && some[0] && !some[1]);
  CHECK(thrown([&] { client.get_all({first, missing}, 0ms); }) == Status::timeout);
  plasma::GetOptions quiet;
  quiet.ask = false;
  CHECK(client.try_get(missing, plasma::forever, quiet).status() == Status::timeout);
  CHECK(client.remove({missing, first})[0] == Status::object_not_found);
}

void given_up(const Client& client) {
  const ObjectId id = ObjectId::random();
  plasma::Buffer buffer = client.create(id, 4);
  CHECK(client.try_abort(id).status() == Status::busy);
  buffer = plasma::Buffer();
  client.abort(id);
  CHECK(client.try_abort(id).status() == Status::object_not_found);
  plasma::CreateOptions options;
  options.ttl = -1ms;
  CHECK(client.try_put(id, "x", options).status() == Status::invalid_argument);
  options.ttl = 0ms;
  options.wait = 1ms;
  CHECK(client.try_create(id, client.capacity() + 1, options).status() == Status::store_full);
}

void without_waiting(const Client& client) {
  const ObjectId put = ObjectId::random(), sealed = ObjectId::random();
  plasma::Buffer buffer = client.create(sealed, 1);
  client.put_async(put, "soon");
  client.seal_async(sealed);
  client.flush();
  CHECK(client.contains(put) && client.contains(sealed));
  client.put_async(put, "twice");
  const plasma::Flushed flushed = client.flush_and_tell();
  CHECK(flushed.failed == 1 && flushed.failures[0].id == put && flushed.failures[0].status == Status::object_exists);
  client.put_async(put, "thrice");
  CHECK(client.try_flush().status() == Status::object_exists && client.try_flush());
}

void lists(const Client& client) {
  const ObjectId id = ObjectId::random();
  client.put(id, "listed");
  client.pin(id);
  const plasma::ObjectList list = client.list();
  const auto found = std::find_if(list.begin(), list.end(), [&](const auto& info) { return info.id == id; });
  CHECK(found != list.end());
  const plasma::ObjectInfo info = *found;
  CHECK(info.state == plasma::ObjectState::sealed && info.data_size == 6 && info.pinned && info.construct_duration);
  CHECK(info.created > std::chrono::system_clock::time_point() && info.metadata_size == 0);
  std::size_t count = 0;
  for (const plasma::ObjectInfo each : list) count += each.id == id;
  CHECK(count == 1 && list.try_at(list.size()).status() == Status::invalid_argument);
  client.unpin(id);
  CHECK(client.try_pin(ObjectId::random()).status() == Status::object_not_found);
}

void figures(Client client) {
  client.put(ObjectId::random(), std::string(1000, 'x'));
  CHECK(client.evict(1) >= 1);
  client.refresh({});
  client.set_options("faces", 1 << 20);
  CHECK(client.try_set_options("twice", 1 << 20).status() == Status::store_full);
  CHECK(client.stats().capacity == client.capacity() && client.stats().clients >= 1);
  CHECK(contains(client.debug_string(), ": ") && client.debug_string().back() != '\0');
}

// --- tensors

template <class T>
void tensor_of(const Client& client, const std::vector<T>& values, const std::string& name) {
  const ObjectId id = ObjectId::random();
  const auto put = client.try_put_tensor(id, values, {static_cast<std::int64_t>(values.size())});
  CHECK(plasma::dtype_of<T>::value.name() == name);
  if (put.status() == Status::unsupported) {
    CHECK(!client.contains(id));
    return;
  }
  put.value();
  const plasma::Tensor tensor = client.get_tensor(id, 0ms);
  const auto read = tensor.values<T>();
  CHECK(tensor.dtype() == plasma::dtype_of<T>::value);
  CHECK(std::equal(read.begin(), read.end(), values.begin(), values.end()));
  CHECK(tensor.bytes().size() == values.size() * sizeof(T));
  using Unknown = plasma::Raw<static_cast<plasma::TypeCode>(77), char>;
  CHECK(tensor.template try_values<Unknown>().status() == Status::invalid_argument);
}

void element_types(const Client& client) {
  tensor_of<std::int8_t>(client, {-1, 2}, "int8");
  tensor_of<std::int16_t>(client, {-1, 2}, "int16");
  tensor_of<std::int32_t>(client, {-1, 2}, "int32");
  tensor_of<std::int64_t>(client, {-1, 2}, "int64");
  tensor_of<std::uint8_t>(client, {1, 2}, "uint8");
  tensor_of<std::uint16_t>(client, {1, 2}, "uint16");
  tensor_of<std::uint32_t>(client, {1, 2}, "uint32");
  tensor_of<std::uint64_t>(client, {1, 2}, "uint64");
  tensor_of<std::byte>(client, {std::byte{1}}, "uint8");
  tensor_of<float>(client, {1.5F}, "float32");
  tensor_of<double>(client, {1.5}, "float64");
  tensor_of<std::complex<float>>(client, {{1, 2}}, "complex64");
  tensor_of<std::complex<double>>(client, {{1, 2}}, "complex128");
  tensor_of<plasma::float16>(client, {{0x3c00}}, "float16");
  tensor_of<plasma::bfloat16>(client, {{0x3f80}}, "bfloat16");
  tensor_of<plasma::complex32>(client, {{0x3c00}}, "complex32");
  tensor_of<plasma::bcomplex32>(client, {{0x3f80}}, "bcomplex32");
  tensor_of<plasma::float8_e3m4>(client, {{1}}, "float8_e3m4");
  tensor_of<plasma::float8_e4m3>(client, {{1}}, "float8_e4m3");
  tensor_of<plasma::float8_e4m3b11fnuz>(client, {{1}}, "float8_e4m3b11fnuz");
  tensor_of<plasma::float8_e4m3fn>(client, {{1}}, "float8_e4m3fn");
  tensor_of<plasma::float8_e4m3fnuz>(client, {{1}}, "float8_e4m3fnuz");
  tensor_of<plasma::float8_e5m2>(client, {{1}}, "float8_e5m2");
  tensor_of<plasma::float8_e5m2fnuz>(client, {{1}}, "float8_e5m2fnuz");
  tensor_of<plasma::float8_e8m0fnu>(client, {{1}}, "float8_e8m0fnu");
}

// Those that share bytes, those of several lanes, and those of a code that nobody has given out yet.
void element_types_without_a_type(const Client& client) {
  using plasma::TypeCode;
  const std::vector<std::pair<plasma::DType, std::string>> types{
      {{TypeCode::float4_e2m1fn, 4}, "float4_e2m1fn"}, {{TypeCode::float6_e2m3fn, 6}, "float6_e2m3fn"},
      {{TypeCode::float6_e3m2fn, 6}, "float6_e3m2fn"}, {{TypeCode::float4_e2m1fn, 4, 2}, "float4_e2m1fn_x2"},
      {{TypeCode::integer, 4}, "int4"},                {{TypeCode::floating, 32, 4}, "float32x4"},
      {{TypeCode::boolean, 8}, "bool"},                {{static_cast<TypeCode>(99), 8}, "DLPack type 99 of 8 bits"}};
  const std::vector<std::uint8_t> bytes{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8};
  for (const auto& [type, name] : types) {
    CHECK(type.name() == name);
    const ObjectId id = ObjectId::random();
    const std::int64_t count = type.bits < 8 ? 8 : 1;
    const auto put = client.try_put_tensor(id, plasma::TensorView(bytes.data(), type, {count}));
    if (put.status() == Status::unsupported) continue;
    put.value();
    const plasma::Tensor tensor = client.get_tensor(id, 0ms);
    CHECK(tensor.dtype() == type && tensor.bytes()[0] == 0x12);
    CHECK(tensor.bytes().size() == type.bytes_of(static_cast<std::size_t>(count)));
    CHECK(type.name() == "bool" || !tensor.try_values<std::uint8_t>());
  }
}

void layouts(const Client& client) {
  const ObjectId rows = ObjectId::random(), columns = ObjectId::random(), every_other = ObjectId::random();
  const std::vector<double> numbers{1, 2, 3, 4, 5, 6};
  client.put_tensor(rows, numbers, {2, 3});
  client.put_tensor(columns, plasma::TensorView(numbers.data(), plasma::dtype_of<double>::value, {2, 3}, {1, 2}));
  client.put_tensor(every_other, plasma::TensorView(numbers.data(), plasma::dtype_of<double>::value, {3}, {2}));
  const plasma::Tensor row_major = client.get_tensor(rows), column_major = client.get_tensor(columns);
  CHECK(row_major.is_row_major() && !row_major.is_column_major() && row_major.ndim() == 2 && row_major.size() == 6);
  CHECK(row_major.view<double, 2>()(1, 0) == 4 && row_major.shape()[1] == 3 && row_major.byte_strides()[0] == 24);
  CHECK(column_major.is_column_major() && !column_major.is_row_major() && column_major.bytes().size() == 48);
  const auto view = column_major.view<double, 2>();
  CHECK(view(1, 0) == 2 && view(0, 2) == 5 && view.extent(1) == 3);
  const auto last = view.rows(1, 1), turned = view.transposed();
  CHECK(last.extent(0) == 1 && last(0, 2) == 6 && turned.extent(0) == 3 && turned(2, 0) == 5);
  const auto refused = column_major.try_values<double>();
  CHECK(!refused && contains(refused.error().what(), "[2, 3] is not row-major"));
  CHECK(thrown([&] { row_major.view<double, 3>(); }) == Status::invalid_argument);
  const plasma::Tensor packed = client.get_tensor(every_other);
  CHECK(packed.values<double>()[2] == 5 && packed.is_row_major());
}

void extreme_shapes(const Client& client) {
  const ObjectId number = ObjectId::random(), none = ObjectId::random(), eight = ObjectId::random();
  client.put_tensor(number, std::array<float, 1>{42}, {});
  const plasma::Tensor scalar = client.get_tensor(number);
  CHECK(scalar.ndim() == 0 && scalar.size() == 1 && scalar.view<float, 0>()() == 42 && scalar.values<float>()[0] == 42);
  client.put_tensor(none, std::vector<float>(), {3, 0});
  const plasma::Tensor empty = client.get_tensor(none);
  CHECK(empty.values<float>().empty() && empty.shape()[0] == 3 && empty.is_row_major() && empty.is_column_major());
  std::vector<std::int32_t> numbers(256);
  std::iota(numbers.begin(), numbers.end(), 0);
  client.put_tensor(eight, numbers, {2, 2, 2, 2, 2, 2, 2, 2});
  const plasma::Tensor deep = client.get_tensor(eight);
  CHECK(deep.view<std::int32_t, 8>()(1, 0, 0, 0, 0, 0, 0, 1) == 129);
}

void tensors_that_cannot_be(const Client& client) {
  const std::vector<float> numbers(6);
  const ObjectId id = ObjectId::random();
  const auto wrong = client.try_put_tensor(id, numbers, {2, 4});
  CHECK(!wrong && contains(wrong.error().what(), "6 values for a tensor of shape [2, 4]"));
  CHECK(client.try_put_tensor(id, numbers, {-2, -3}).status() == Status::invalid_argument);
  CHECK(client.try_put_tensor(id, numbers, {INT64_MAX, INT64_MAX}).status() == Status::invalid_argument);
  const plasma::TensorView one_stride(numbers.data(), plasma::dtype_of<float>::value, {2, 3}, {1});
  CHECK(client.try_put_tensor(id, one_stride).status() == Status::invalid_argument);
  CHECK(!client.contains(id));
  client.put(id, "no tensor");
  CHECK(client.try_get_tensor(id).status() == Status::corrupt);
}

void filled_in_place(const Client& client) {
  const ObjectId id = ObjectId::random();
  plasma::CreateOptions options;
  options.metadata = "counts";
  plasma::Tensor tensor = client.create_tensor<std::int32_t>(id, {2, 3}, options);
  const auto values = tensor.mutable_values<std::int32_t>();
  std::iota(values.begin(), values.end(), 1);
  tensor.mutable_view<std::int32_t, 2>()(1, 2) = 60;
  client.seal(tensor.id());
  CHECK(!tensor.is_writable() && tensor.try_mutable_values<std::int32_t>().status() == Status::invalid_argument);
  CHECK((tensor.try_mutable_view<std::int32_t, 2>().status() == Status::invalid_argument));
  const plasma::Tensor got = client.get_tensor(id);
  CHECK(got.values<std::int32_t>().back() == 60 && got.buffer().metadata().size() == 6);
}

void dimensions_have_names(const Client& client) {
  const ObjectId id = ObjectId::random(), created = ObjectId::random();
  plasma::CreateOptions options;
  options.dimension_names = {"row", ""};
  client.put_tensor(id, std::vector<float>(6), {2, 3}, options);
  const plasma::Tensor tensor = client.get_tensor(id);
  CHECK(tensor.dimension_name(0) == "row" && tensor.dimension_name(1).empty());
  CHECK(tensor.try_dimension_name(2).status() == Status::invalid_argument);
  CHECK(tensor.try_dimension_name(SIZE_MAX).status() == Status::invalid_argument);
  CHECK(plasma::Tensor().try_dimension_name(0).status() == Status::invalid_argument);
  const std::string longer(1000, 'n');
  options.dimension_names = {longer};
  const auto refused = client.try_put_tensor(created, std::vector<float>(6), {2, 3}, options);
  CHECK(!refused && contains(refused.error().what(), "1 names for 2 dimensions"));
  CHECK(client.try_create_tensor<float>(created, {2, 3}, options).status() == Status::invalid_argument);
  CHECK(client.create_tensor<float>(created, {6}, options).dimension_name(0) == longer);
  options.dimension_names = {std::string("a\0b", 3)};
  CHECK(client.try_create_tensor<float>(ObjectId::random(), {6}, options).status() == Status::invalid_argument);
}

// Elements of less than a byte that come with a byte each.
void padded_elements(const Client& client) {
  const ObjectId id = ObjectId::random();
  std::array<std::uint8_t, 4> bytes{1, 2, 3, 4};
  std::int64_t length = 4, stride = 1;
  DLManagedTensorVersioned tensor{};
  tensor.version = {DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION};
  tensor.flags = DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED;
  tensor.dl_tensor = {bytes.data(), {kDLCPU, 0}, 1, plasma::DType(plasma::TypeCode::integer, 4), &length, &stride, 0};
  client.put_tensor(id, tensor);
  const plasma::Tensor got = client.get_tensor(id);
  CHECK(got.bytes().size() == 2 && got.bytes()[1] == 0x43 && got.dimension_name(0).empty());
  plasma::CreateOptions options;
  options.dimension_names = {"small"};
  CHECK(client.try_put_tensor(ObjectId::random(), tensor, options).status() == Status::unsupported);
  options.dimension_names = {"one", "too many"};
  CHECK(client.try_put_tensor(ObjectId::random(), tensor, options).status() == Status::invalid_argument);
}

void parts_for_others(const Client& client) {
  const ObjectId id = ObjectId::random();
  client.put_tensor(id, std::vector<float>{1, 2, 3, 4, 5, 6}, {3, 2});
  const plasma::Tensor tensor = client.get_tensor(id);
  const float* const first = tensor.values<float>().data();
  const plasma::ManagedTensor rows = tensor.rows_to_dlpack(1, 2);
  CHECK(rows->dl_tensor.data == first + 2 && rows->dl_tensor.shape[0] == 2 && rows->dl_tensor.ndim == 2);
  CHECK(tensor.rows_to_dlpack_versioned(2, 1)->dl_tensor.data == first + 4);
  const auto beyond = tensor.try_rows_to_dlpack(2, 2);
  CHECK(beyond.status() == Status::invalid_argument && contains(beyond.error().what(), "tensor_rows: "));
  plasma::ViewOptions turned;
  turned.shape = plasma::Shape{2, 2};
  turned.strides = {1, 2};
  turned.offset = 2;
  const plasma::ManagedTensorVersioned view = tensor.to_dlpack_versioned(turned);
  CHECK(view->dl_tensor.data == first + 2 && view->dl_tensor.strides[1] == 2);
  CHECK((view->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0 && (view->flags & DLPACK_FLAG_BITMASK_IS_COPIED) == 0);
  turned.offset = 4;
  CHECK(tensor.try_to_dlpack(turned).status() == Status::invalid_argument);
  turned.strides = {1};
  const auto one_stride = tensor.try_to_dlpack_versioned(turned);
  CHECK(!one_stride && contains(one_stride.error().what(), "1 strides for shape [2, 2]"));
  plasma::ViewOptions number;
  number.shape = plasma::Shape{};
  number.offset = 5;
  const plasma::ManagedTensor last = tensor.to_dlpack(number);
  CHECK(last->dl_tensor.ndim == 0 && last->dl_tensor.data == first + 5);
}

void copies_for_others(const Client& client) {
  const ObjectId id = ObjectId::random();
  client.put_tensor(id, std::vector<float>{1, 2, 3}, {3});
  plasma::ViewOptions options;
  options.copy = true;
  const plasma::Tensor tensor = client.get_tensor(id);
  const plasma::ManagedTensorVersioned copy = tensor.to_dlpack_versioned(options);
  CHECK((copy->flags & DLPACK_FLAG_BITMASK_IS_COPIED) != 0 && (copy->flags & DLPACK_FLAG_BITMASK_READ_ONLY) == 0);
  auto* const mine = static_cast<float*>(copy->dl_tensor.data);
  mine[2] = 30;
  CHECK(mine[0] == 1 && tensor.values<float>()[2] == 3);
}

void given_to_others(Client client) {
  const ObjectId id = ObjectId::random();
  client.put_tensor(id, std::vector<float>{1, 2, 3}, {3});
  const plasma::ManagedTensor legacy = client.get_tensor(id).to_dlpack();
  const plasma::ManagedTensorVersioned versioned = client.get_tensor(id).to_dlpack_versioned();
  plasma::Buffer buffer = client.get(id);
  client = Client();
  CHECK(static_cast<float*>(legacy->dl_tensor.data)[2] == 3);
  CHECK((versioned->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0 && versioned->dl_tensor.shape[0] == 3);
  const plasma::Tensor tensor = plasma::Tensor::from(plasma::Buffer(buffer.release()));
  CHECK(tensor.values<float>()[0] == 1);
}

// --- events and waiting

void events(const Client& client) {
  const plasma::Subscription subscription = client.subscribe(true);
  const ObjectId id = ObjectId::random();
  client.put(id, "seen");
  client.remove(id);
  const plasma::Event sealed = subscription.next(1min);
  CHECK(sealed.kind == plasma::EventKind::sealed && sealed.id == id && sealed.data_size == 4);
  CHECK(subscription.next(1min).kind == plasma::EventKind::deleted && subscription.fd() >= 0);
  CHECK(subscription.try_next(0ms).status() == Status::timeout);
  client.put(id, "again");
  std::size_t count = 0;
  for (const plasma::Event& event : subscription.events(5s)) {
    count += event.id == id;
    if (count == 1) break;
  }
  for (const plasma::Event& event : subscription.events(0ms)) count += event.id == id;
  CHECK(count == 1);
  CHECK(plasma::try_decode_events("no frame").status() == Status::protocol_error);
}

// One frame, as it comes from the descriptor.
void frames(const Client& client) {
  const plasma::Subscription subscription = client.subscribe(true);
  client.put(ObjectId::random(), "framed");
  std::int64_t length = 0;
  CHECK(read(subscription.fd(), &length, sizeof length) == sizeof length && length > 0 && length < 4096);
  std::vector<char> frame(static_cast<std::size_t>(length));
  CHECK(read(subscription.fd(), frame.data(), frame.size()) == length);
  const auto events = plasma::decode_events(frame);
  CHECK(events.size() == 1 && events[0].data_size == 6);
}

void watched(const Client& client) {
  const ObjectId id = ObjectId::random(), other = ObjectId::random();
  client.watch({id, other});
  client.unwatch(other);
  CHECK(client.watch_fd() >= 0 && client.watch_take().empty());
  client.put(id, "watched");
  std::vector<ObjectId> taken;
  while (taken.empty()) taken = client.watch_take();
  CHECK(taken == std::vector<ObjectId>{id});
}

void interrupted(const Client& client) {
  std::atomic<bool> done = false;
  std::thread waiting([&] {
    CHECK(client.try_get(ObjectId::random()).status() == Status::interrupted);
    done = true;
  });
  while (!done) {
    client.interrupt();
    std::this_thread::sleep_for(1ms);
  }
  waiting.join();
  int ends[2];
  CHECK(pipe(ends) == 0 && write(ends[1], "x", 1) == 1);
  {
    const plasma::WakeFd wake(ends[0]);
    CHECK(client.try_get(ObjectId::random()).status() == Status::interrupted);
  }
  CHECK(client.try_get(ObjectId::random(), 1ms).status() == Status::timeout);
  CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
  CHECK(thrown([&] { plasma::WakeFd closed(ends[0]); }) == Status::invalid_argument);
}

// What is held stays, calls say so, and a range of events ends.
void the_end(plasma::Store store, const Client& client) {
  const ObjectId id = ObjectId::random();
  client.put_tensor(id, std::vector<float>{7}, {1});
  const plasma::Tensor tensor = client.get_tensor(id);
  const plasma::Subscription subscription = client.subscribe();
  store.stop();
  std::size_t count = 0;
  for (const plasma::Event& event : subscription.events()) count += event.id == id;
  CHECK(count <= 1 && subscription.try_next().status() == Status::disconnected);
  CHECK(client.try_put(ObjectId::random(), "late").status() == Status::disconnected);
  CHECK(tensor.values<float>()[0] == 7 && !store);
}

void values() {
  ids();
  ids_that_are_none();
  spans();
}

void all_of_objects(const Client& client) {
  objects(client);
  copies_are_private(client);
  immutable(client);
  several(client);
  given_up(client);
  without_waiting(client);
  lists(client);
}

void all_of_tensors(const Client& client) {
  element_types(client);
  element_types_without_a_type(client);
  layouts(client);
  extreme_shapes(client);
  tensors_that_cannot_be(client);
  filled_in_place(client);
  dimensions_have_names(client);
  padded_elements(client);
  parts_for_others(client);
  copies_for_others(client);
}

void all_of_waiting(const Client& client) {
  events(client);
  frames(client);
  watched(client);
  interrupted(client);
}

void run() {
  values();
  plasma::StoreOptions options;
  options.capacity = 8 << 20;
  plasma::Store store = plasma::Store::start(options);
  CHECK(plasma::Store::try_start({store.socket(), 0}).status() == Status::address_in_use);
  connecting(store.socket() + ".nowhere");
  const auto connect = [&] { return Client::connect(store.socket()); };
  handles_that_hold_nothing(connect());
  const Client client = connect();
  all_of_objects(client);
  figures(connect());
  all_of_tensors(client);
  given_to_others(connect());
  bundles_and_names(client);
  rings_and_shared(store.socket());
  all_of_waiting(client);
  the_end(std::move(store), client);
}

}  // namespace

int main() { return played("faces", run); }
