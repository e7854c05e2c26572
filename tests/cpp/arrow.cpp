//! Every call of plasma_store/arrow.hpp, in a store that lives in this program. Ends with "arrow: ok".
#include "check.hpp"

#include <arrow/api.h>
#include <arrow/tensor.h>
#include <plasma_store/arrow.hpp>

#include <cstring>

namespace {

using namespace std::chrono_literals;
using plasma::Client;
using plasma::ObjectId;

const std::vector<double> kNumbers{1, 2, 3, 4, 5, 6};

std::shared_ptr<arrow::Tensor> matrix(const std::vector<std::int64_t>& strides, const std::vector<std::string>& names) {
  const auto memory = arrow::Buffer::Wrap(kNumbers);
  return arrow::Tensor::Make(arrow::float64(), memory, {2, 3}, strides, names).ValueOrDie();
}

// "Create", "Seal" and "Get" of the old tutorial.
void buffers(const Client& client) {
  const ObjectId id = ObjectId::random();
  {
    const std::shared_ptr<arrow::Buffer> data = plasma::create_arrow_buffer(client, id, 5).ValueOrDie();
    CHECK(data->is_mutable() && data->size() == 5);
    std::memcpy(data->mutable_data(), "bytes", 5);
    client.seal(id);
  }
  const auto read = plasma::get_arrow_buffer(client, id).ValueOrDie();
  CHECK(read->ToString() == "bytes" && !read->is_mutable());
  CHECK(plasma::create_arrow_buffer(client, id, 5).status().IsAlreadyExists());
  CHECK(plasma::create_arrow_buffer(client, id, -5).status().IsInvalid());
  CHECK(plasma::create_arrow_buffer(client, ObjectId::random(), INT64_MAX).status().IsCapacityError());
  CHECK(plasma::get_arrow_buffer(client, ObjectId::random(), 0ms).status().IsIOError());
}

void tensors(const Client& client, const std::vector<std::int64_t>& strides, const std::vector<std::string>& names) {
  const ObjectId id = ObjectId::random();
  const auto wanted = matrix(strides, names);
  CHECK(plasma::put_arrow_tensor(client, id, *wanted).ok());
  const auto tensor = plasma::get_arrow_tensor(client, id).ValueOrDie();
  CHECK(tensor->Equals(*wanted) && tensor->dim_names() == names && tensor->strides() == wanted->strides());
  const plasma::Buffer object = client.get(id);
  CHECK(tensor->raw_data() >= object.data().begin() && tensor->raw_data() < object.data().end());
  CHECK(!tensor->is_mutable() && plasma::put_arrow_tensor(client, id, *wanted).IsAlreadyExists());
  const plasma::Tensor ours = client.get_tensor(id);
  CHECK(ours.view<double, 2>()(1, 2) == tensor->Value<arrow::DoubleType>({1, 2}));
}

// Of other shapes, and with a name for some dimensions only.
void shapes(const Client& client) {
  for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{}, {3, 0}, {1, 2, 1, 3}}) {
    const ObjectId id = ObjectId::random();
    std::vector<std::string> names(shape.size());
    if (shape.size() == 4) names[3] = "last";
    const auto wanted = arrow::Tensor::Make(arrow::int64(), arrow::Buffer::Wrap(kNumbers), shape, {}, names);
    CHECK(plasma::put_arrow_tensor(client, id, **wanted).ok());
    const auto tensor = plasma::get_arrow_tensor(client, id).ValueOrDie();
    CHECK(tensor->Equals(**wanted) && tensor->shape() == shape);
    CHECK(tensor->dim_names() == (shape.size() == 4 ? names : std::vector<std::string>()));
    CHECK(tensor->data()->size() == tensor->size() * 8);
  }
}

void element_types(const Client& client) {
  for (const auto& type :
       {arrow::int8(), arrow::int16(), arrow::int32(), arrow::int64(), arrow::uint8(), arrow::uint16(), arrow::uint32(),
        arrow::uint64(), arrow::float16(), arrow::float32(), arrow::float64()}) {
    const ObjectId id = ObjectId::random();
    const auto memory = arrow::Buffer::Wrap(kNumbers);
    CHECK(plasma::put_arrow_tensor(client, id, *arrow::Tensor::Make(type, memory, {2}).ValueOrDie()).ok());
    CHECK(plasma::get_arrow_tensor(client, id).ValueOrDie()->type()->Equals(*type));
  }
  CHECK(plasma::from_arrow(*arrow::boolean()).status().IsNotImplemented());
  CHECK(plasma::to_arrow(plasma::dtype_of<plasma::bfloat16>::value) == nullptr);
}

// Objects that are no tensors of Arrow's say so by their own name, and not that of what carries them.
void others(const Client& client) {
  const ObjectId id = ObjectId::random(), bytes = ObjectId::random();
  const std::vector<plasma::bfloat16> halves(3);
  if (client.try_put_tensor(id, halves, {3})) {
    const auto refused = plasma::get_arrow_tensor(client, id).status();
    CHECK(refused.IsNotImplemented() && refused.message().find("bfloat16") != std::string::npos);
  }
  client.put(bytes, "no tensor");
  CHECK(plasma::get_arrow_tensor(client, bytes).status().IsInvalid());
}

void outlives() {
  std::shared_ptr<arrow::Tensor> tensor;
  {
    const plasma::Store store = plasma::Store::start();
    const Client client = Client::connect(store.socket());
    const ObjectId id = ObjectId::random();
    CHECK(plasma::put_arrow_tensor(client, id, *matrix({}, {})).ok());
    tensor = plasma::get_arrow_tensor(client, id).ValueOrDie();
  }
  CHECK(tensor->Equals(*matrix({}, {})));
}

void run() {
  const plasma::Store store = plasma::Store::start();
  const Client client = Client::connect(store.socket());
  buffers(client);
  tensors(client, {}, {});
  tensors(client, {8, 16}, {});
  tensors(client, {}, {"row", "column"});
  shapes(client);
  element_types(client);
  others(client);
  outlives();
}

}  // namespace

int main() { return played("arrow", run); }
