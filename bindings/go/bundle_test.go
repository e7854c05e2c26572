package plasmastore

import (
	"strings"
	"testing"
	"time"
)

// patient waits for room, as a call does that may be interrupted.
var patient = CreateOptions{Wait: time.Second}

// bundleOf puts tensors and gets them; what they are closes with the test.
func bundleOf(t *testing.T, client *Client, metadata map[string]string, tensors ...NamedView) *Bundle {
	t.Helper()
	id := random(t)
	must(t, client.PutTensors(id, tensors, metadata, patient))
	bundle, err := client.GetTensors(background, id)
	must(t, err)
	t.Cleanup(func() { must(t, bundle.Close()) })
	return bundle
}

// valuesOf is all elements of a tensor of a bundle.
func valuesOf[T Element](t *testing.T, bundle *Bundle, name string) []T {
	t.Helper()
	tensor, err := bundle.Tensor(name)
	must(t, err)
	values, err := Values[T](tensor)
	must(t, err)
	return values
}

func TestBundles(t *testing.T) {
	_, client := fresh(t)
	said := map[string]string{"step": "5", "by": ""}
	everyOther := TensorView{DType: DTypeOf[uint8](), Data: []byte{1, 2, 3, 4, 5}, Shape: []int{3}, Strides: []int{2}}
	bundle := bundleOf(t, client, said, NamedView{"weight", ViewOf([]float32{1, 2, 3, 4, 5, 6}, 2, 3)},
		NamedView{"bias", ViewOf([]complex64{7i})}, NamedView{"none", ViewOf([]int64{}, 0, 3)},
		NamedView{"bytes", everyOther})
	same(t, bundle.Len(), 4)
	same(t, bundle.Names(), []string{"weight", "bias", "none", "bytes"})
	same(t, bundle.Metadata(), said)
	same(t, valuesOf[float32](t, bundle, "weight"), []float32{1, 2, 3, 4, 5, 6})
	same(t, valuesOf[complex64](t, bundle, "bias"), []complex64{7i})
	same(t, valuesOf[int64](t, bundle, "none"), []int64{})
	same(t, valuesOf[uint8](t, bundle, "bytes"), []uint8{1, 3, 5})
	_, err := bundle.Tensor("missing")
	fails(t, err, InvalidArgument)
	same(t, err.Error(), "\"missing\" is not one of the 4 tensors")
	same(t, bundleOf(t, client, nil).Names(), []string(nil))
}

// Tensors keep the memory, whatever becomes of object, client and store; closing the bundle closes them.
func TestBundlesKeepTheMemory(t *testing.T) {
	store, client := fresh(t)
	bundle := bundleOf(t, client, nil, NamedView{"x", ViewOf([]int16{1, 2}, 2)})
	tensor, err := bundle.Tensor("x")
	must(t, err)
	id, err := tensor.Buffer().ID()
	must(t, err)
	mine, err := client.GetTensors(background, id, Private)
	must(t, err)
	valued, err := mine.Tensor("x")
	must(t, err)
	writable, err := MutableValues[int16](valued)
	must(t, err)
	writable[0] = 10
	must(t, client.Close())
	must(t, store.Close())
	same(t, append(valuesOf[int16](t, mine, "x"), valuesOf[int16](t, bundle, "x")...), []int16{10, 2, 1, 2})
	must(t, mine.Close())
	_, err = Values[int16](valued)
	fails(t, err, InvalidArgument)
}

func TestBundlesThatCannotBe(t *testing.T) {
	_, client := fresh(t)
	id, x := random(t), ViewOf([]int16{1, 2}, 2)
	for text, tensors := range map[string][]NamedView{
		"\"x\" comes twice":                     {{"x", x}, {"x", x}},
		"__pad.0":                               {{"__pad.0", x}},
		"the tensor's name has a zero byte":     {{"a\x00b", x}},
		"tensor \"short\": 2 values for":        {{"short", ViewOf([]int16{1, 2}, 3)}},
		"tensor \"none\": 0 bytes for":          {{"none", TensorView{DType: DTypeOf[int16](), Shape: []int{3}}}},
		"safetensors has no complex128":         {{"z", ViewOf([]complex128{1}, 1)}},
		"tensor \"far\": 4 bytes for shape [2]": {{"far", TensorView{x.DType, x.Data, x.Shape, []int{2}, false, nil}}},
	} {
		err := client.PutTensors(id, append(tensors, NamedView{"other", x}), nil, CreateOptions{})
		same(t, err != nil && strings.Contains(err.Error(), text), true)
	}
	fails(t, client.PutTensors(id, nil, map[string]string{"a\x00b": ""}, CreateOptions{}), InvalidArgument)
	fails(t, client.PutTensors(id, nil, map[string]string{"": "a\x00b"}, CreateOptions{}), InvalidArgument)
	fails(t, client.PutTensors(id, nil, nil, CreateOptions{Metadata: []byte("bytes")}), InvalidArgument)
	there, err := client.Contains(id)
	must(t, err)
	same(t, there, false)
	must(t, client.Put(id, []byte("no bundle"), CreateOptions{}))
	_, err = client.GetTensors(background, id)
	fails(t, err, Corrupt)
}

// A file of somebody else, whose elements begin at an odd byte.
func TestBundlesThatAreNotAligned(t *testing.T) {
	_, client := fresh(t)
	id, header := random(t), `{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`
	file := append(append([]byte{byte(len(header)), 0, 0, 0, 0, 0, 0, 0}, header...), 0, 0, 0x80, 0x3f, 0, 0, 0, 0x40)
	must(t, client.Put(id, file, CreateOptions{}))
	bundle, err := client.GetTensors(background, id)
	must(t, err)
	defer bundle.Close()
	tensor, err := bundle.Tensor("t")
	must(t, err)
	_, err = Values[float32](tensor)
	fails(t, err, InvalidArgument)
	same(t, err.Error(), "elements lie 2 bytes behind a multiple of 4: use Copied")
	_, err = tensor.Rows(0, 1)
	fails(t, err, InvalidArgument)
	copied, err := Copied[float32](tensor)
	must(t, err)
	same(t, copied, []float32{1, 2})
	last, err := At[float32](tensor, 1)
	must(t, err)
	same(t, last, float32(2))
}

// creates makes an object by each call that takes options, and tells how each went.
func creates(client *Client, id ObjectID, options CreateOptions) []error {
	_, created := client.Create(id, 1, options)
	_, tensor := client.CreateTensor(id, DTypeOf[int8](), []int{1}, options)
	return []error{created, tensor, client.Put(id, nil, options), client.PutAsync(id, nil, options),
		PutTensorWith(client, id, options, []int8{1}, 1), client.PutTensors(id, nil, nil, options)}
}

func TestNames(t *testing.T) {
	_, client := fresh(t)
	id, err := NamedID("", "features/train")
	must(t, err)
	for _, name := range []string{"another", "features/train\x00"} {
		for _, err := range creates(client, id, CreateOptions{Name: name}) {
			fails(t, err, InvalidArgument)
		}
	}
	_, err = client.NameOf(id)
	fails(t, err, ObjectNotFound)
	must(t, PutTensorWith(client, id, CreateOptions{Name: "features/train"}, []int8{1}, 1))
	longer := strings.Repeat("n", 1000)
	other, err := NamedID("", longer)
	must(t, err)
	must(t, client.PutTensors(other, nil, nil, CreateOptions{Name: longer, Wait: time.Second}))
	nameless := random(t)
	must(t, client.Put(nameless, nil, CreateOptions{}))
	for its, wanted := range map[ObjectID]string{id: "features/train", other: longer, nameless: ""} {
		name, err := client.NameOf(its)
		must(t, err)
		same(t, name, wanted)
	}
}
