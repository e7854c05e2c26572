//! Bundles and names, in the program of faces.cpp.
#include "check.hpp"

#include <numeric>

namespace {

using namespace std::chrono_literals;
using plasma::Client;
using plasma::ObjectId;
using plasma::Status;
using plasma::Texts;

const std::vector<float> kWeight{1, 2, 3, 4, 5, 6};
const std::vector<std::int64_t> kBias{7, 8, 9};

void names_are_kept(const Client& client) {
  const ObjectId put = ObjectId::from_name("put"), sealed = ObjectId::from_name("sealed");
  plasma::CreateOptions options;
  options.name = "put";
  client.put_tensor(put, kWeight, {2, 3}, options);
  CHECK(client.name_of(put) == "put" && client.get_tensor(ObjectId::from_name("put"), 0ms).size() == 6);
  options.name = "sealed";
  client.create(sealed, 3, options);
  CHECK(client.try_name_of(sealed).status() == Status::object_not_found);
  client.seal(sealed);
  CHECK(client.name_of(sealed) == "sealed");
  const std::string longer(1000, 'n');
  options.name = longer;
  client.put(ObjectId::from_name(longer), "long", options);
  CHECK(client.name_of(ObjectId::from_name(longer)) == longer);
  const ObjectId nameless = ObjectId::random();
  client.put(nameless, "x");
  CHECK(client.name_of(nameless).empty());
  CHECK(client.try_name_of(ObjectId::random()).status() == Status::object_not_found);
}

// Every call that creates takes one, and says where it cannot be.
void names_that_cannot_be(const Client& client) {
  const ObjectId id = ObjectId::from_name("this");
  plasma::CreateOptions options;
  for (const std::string& name : {std::string("another"), std::string("this\0", 5)}) {
    options.name = name;
    CHECK(client.try_put(id, "x", options).status() == Status::invalid_argument);
    CHECK(client.try_put_async(id, "x", options).status() == Status::invalid_argument);
    CHECK(client.try_create(id, 1, options).status() == Status::invalid_argument);
    CHECK(client.try_put_tensor(id, kBias, {3}, options).status() == Status::invalid_argument);
    CHECK(client.try_create_tensor<float>(id, {3}, options).status() == Status::invalid_argument);
    CHECK(client.try_put_tensors(id, {}, {}, options).status() == Status::invalid_argument);
  }
  CHECK(contains(client.try_put(id, "x", options).error().what(), "name has a zero byte at 4"));
  const plasma::PutItem item{id, "x", {}};
  CHECK(client.try_put_batch({&item, 1}, options).status() == Status::invalid_argument && !client.contains(id));
  options.name = "this";
  CHECK(client.try_put_batch({&item, 1}, options).status() == Status::unsupported);
}

void put_and_got(const Client& client) {
  const ObjectId id = ObjectId::from_name("model/1");
  plasma::CreateOptions options;
  options.name = "model/1";
  client.put_tensors(id, {{"weight", {kWeight, {2, 3}}}, {"bias", {kBias, {3}}}}, {{"step", "5"}, {"by", ""}}, options);
  const plasma::Bundle bundle = client.get_tensors(id, 0ms);
  CHECK(bundle && bundle.size() == 2 && !bundle.empty() && client.name_of(id) == "model/1");
  const plasma::Tensor weight = bundle["weight"], bias = bundle.at("bias");
  CHECK(weight.view<float, 2>()(1, 0) == 4 && bias.values<std::int64_t>()[2] == 9 && weight.id() == id);
  CHECK(weight.to_dlpack()->dl_tensor.data == weight.data() && !weight.is_writable());
  CHECK((bundle.metadata() == Texts{{"step", "5"}, {"by", ""}}));
  CHECK(bundle.contains("bias") && !bundle.contains("__pad.0") && !bundle.contains(""));
  const auto missing = bundle.try_at("missing");
  CHECK(!missing && contains(missing.error().what(), "\"missing\" is not one of the 2 tensors"));
  CHECK(thrown([&] { bundle["missing"]; }) == Status::invalid_argument);
}

void iterated(const Client& client) {
  const ObjectId id = ObjectId::random();
  const std::vector<plasma::NamedView> views{
      {"b", {kWeight, {6}}}, {"a", {kWeight.data(), plasma::dtype_of<float>::value, {3}, {2}}}, {"none", {kBias, {3}}}};
  client.put_tensors(id, views);
  std::string names;
  std::size_t elements = 0;
  for (const auto& [name, tensor] : client.get_tensors(id)) {
    names += name + " ";
    elements += tensor.size();
  }
  const plasma::Bundle bundle = client.get_tensors(id);
  CHECK(elements == 12 && names == "b a none " && bundle[1].name == "a" && bundle.metadata().empty());
  CHECK(bundle[0].tensor.size() == 6 && bundle["a"].is_row_major());
  const plasma::Tensor every_other = bundle.at(1).tensor;
  CHECK(every_other.values<float>()[2] == 5 && bundle.try_at(3).status() == Status::invalid_argument);
}

// Tensors keep the memory, whatever becomes of bundle and object; a private one can be written.
void outlives(const Client& client) {
  const ObjectId id = ObjectId::random();
  client.put_tensors(id, {{"bias", {kBias, {3}}}});
  plasma::GetOptions options;
  options.private_copy = true;
  plasma::Tensor mine = client.get_tensors(id, 0ms, options)["bias"];
  const plasma::Tensor theirs = plasma::Bundle::from(client.get(id))["bias"];
  client.remove(id);
  mine.mutable_values<std::int64_t>()[0] = 70;
  CHECK(mine.values<std::int64_t>()[0] == 70 && theirs.values<std::int64_t>()[0] == 7);
}

void empty_ones(const Client& client) {
  const ObjectId id = ObjectId::random();
  client.put_tensors(id, {});
  CHECK(client.get_tensors(id).empty() && client.get_tensors(id).begin() == client.get_tensors(id).end());
  plasma::Bundle none;
  CHECK(!none && none.empty() && none.metadata().empty() && !none.contains("x") && none.begin() == none.end());
  CHECK(none.try_at(0).status() == Status::invalid_argument && !none.try_at("x") && none.release() == nullptr);
  CHECK(!plasma::Bundle::try_from(plasma::Buffer()));
}

void refused(const Client& client, std::vector<plasma::NamedView> tensors, Status status, const std::string& text) {
  const ObjectId id = ObjectId::random();
  const auto outcome = client.try_put_tensors(id, std::move(tensors));
  CHECK(outcome.status() == status && contains(outcome.error().what(), text) && !client.contains(id));
}

void bundles_that_cannot_be(const Client& client) {
  const plasma::DType z = plasma::dtype_of<std::complex<double>>::value;
  refused(client, {{"x", {kBias, {3}}}, {"x", {kBias, {3}}}}, Status::invalid_argument, "\"x\" comes twice");
  refused(client, {{"__pad.0", {kBias, {3}}}}, Status::invalid_argument, "__pad.0");
  refused(client, {{"z", {kWeight.data(), z, {1}}}}, Status::unsupported, "safetensors has no complex128");
  refused(client, {{"short", {kBias, {4}}}}, Status::invalid_argument, "short: plasma::TensorView: 3 values");
  refused(client, {{std::string("a\0b", 3), {kBias, {3}}}}, Status::invalid_argument, "zero byte at 1");
  const ObjectId id = ObjectId::random();
  const std::string zero("a\0b", 3);
  CHECK(client.try_put_tensors(id, {}, {{zero, ""}}).status() == Status::invalid_argument);
  CHECK(client.try_put_tensors(id, {}, {{"", zero}}).status() == Status::invalid_argument);
  plasma::CreateOptions options;
  options.metadata = "bytes";
  CHECK(client.try_put_tensors(id, {}, {}, options).status() == Status::invalid_argument);
  CHECK(client.try_get_tensors(id, 0ms).status() == Status::timeout);
  client.put(id, "no bundle");
  CHECK(client.try_get_tensors(id).status() == Status::corrupt);
}

// A file of somebody else, whose elements begin at an odd byte.
void not_aligned(const Client& client) {
  const ObjectId id = ObjectId::random();
  const std::string header = R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  std::string file(8, '\0');
  file[0] = static_cast<char>(header.size());
  client.put(id, file + header + std::string("\0\0\x80\x3f\0\0\0\x40", 8));
  const plasma::Tensor tensor = client.get_tensors(id)["t"];
  CHECK(tensor.bytes().size() == 8 && tensor.bytes()[2] == 0x80);
  const auto values = tensor.try_values<float>();
  CHECK(!values && contains(values.error().what(), "elements lie 2 bytes behind a multiple of 4"));
  CHECK((tensor.try_view<float, 1>().status() == Status::invalid_argument));
  const plasma::ManagedTensor copy = tensor.to_dlpack();
  CHECK(static_cast<const float*>(copy->dl_tensor.data)[1] == 2);
}

}  // namespace

void bundles_and_names(const Client& client) {
  names_are_kept(client);
  names_that_cannot_be(client);
  put_and_got(client);
  iterated(client);
  outlives(client);
  empty_ones(client);
  bundles_that_cannot_be(client);
  not_aligned(client);
}
