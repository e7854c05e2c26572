package plasmastore

/*
#include <plasma_store.h>
#include <stdlib.h>
#include <string.h>

// A tensor and all that it points at, in one piece of C's memory: Go must not give C pointers to pointers of its own.
static DLTensor *copied_tensor(DLDataType dtype, int32_t ndim, const int64_t *shape, const int64_t *strides,
                               const void *data, size_t size) {
  size_t numbers = (size_t)ndim * sizeof *shape;
  DLTensor *tensor = (DLTensor *)calloc(1, sizeof *tensor + 2 * numbers + size);
  if (tensor == NULL) {
    return NULL;
  }
  int64_t *place = (int64_t *)(tensor + 1);
  DLTensor made = {(char *)place + 2 * numbers, {kDLCPU, 0}, ndim, dtype, place, NULL, 0};
  memcpy(place, shape, numbers);
  if (strides != NULL) {
    made.strides = (int64_t *)memcpy(place + ndim, strides, numbers);
  }
  if (size > 0) {
    memcpy(made.data, data, size);
  }
  *tensor = made;
  return tensor;
}

static plasma_status write_bundle(plasma_client *client, const plasma_object_id *id, char **names, DLTensor **tensors,
                                  const uint64_t *flags, size_t count, const tensor_bundle_options *options) {
  tensor_bundle_item *items = (tensor_bundle_item *)calloc(count + 1, sizeof *items);
  if (items == NULL) {
    return PLASMA_OUT_OF_MEMORY;
  }
  for (size_t i = 0; i < count; i++) {
    items[i].name = names[i];
    items[i].tensor = tensors[i];
    items[i].flags = flags[i];
  }
  plasma_status status = tensor_bundle_write(client, id, items, count, options);
  free(items);
  return status;
}
*/
import "C"

import (
	"context"
	"fmt"
	"unsafe"
)

// NamedView is a tensor of the caller's that is to be stored in a bundle. Its name is not "__metadata__" and does not
// begin with "__pad.".
type NamedView struct {
	Name string
	View TensorView
}

// PutTensors stores copies of tensors as one sealed object, byte for byte a safetensors file, with what is said beside
// them, texts by texts. They lie row-major, in this order. On their way they are copied once more, into memory of C's.
func (c *Client) PutTensors(id ObjectID, tensors []NamedView, metadata map[string]string, options CreateOptions) error {
	if len(options.Metadata) > 0 || len(options.DimensionNames) > 0 {
		return invalid("of a bundle, the metadata are texts, and dimensions have no names")
	}
	made, err := newBundle(tensors, metadata)
	defer made.free()
	if err != nil {
		return err
	}
	return c.create(options, func(create *C.plasma_create_options) C.plasma_status {
		wanted := made.options
		wanted.flags, wanted.ttl_ms, wanted.wait_ms, wanted.name = create.flags, create.ttl_ms, create.wait_ms, create.name
		count := C.size_t(len(tensors))
		return C.write_bundle(c.handle, id.c(), made.names, &made.tensors[0], &made.flags[0], count, &wanted)
	})
}

// cBundle is a bundle to be put, in memory of C's.
type cBundle struct {
	names   **C.char
	tensors []*C.DLTensor // and flags: one more so that there is a first
	flags   []C.uint64_t
	options C.tensor_bundle_options
	frees   []func()
}

func (b *cBundle) free() {
	for _, free := range b.frees {
		free()
	}
}

// newBundle is to be freed, also where there is an error.
func newBundle(tensors []NamedView, metadata map[string]string) (*cBundle, error) {
	made := &cBundle{tensors: make([]*C.DLTensor, len(tensors)+1), flags: make([]C.uint64_t, len(tensors)+1)}
	names := []string{}
	for i, tensor := range tensors {
		names = append(names, tensor.Name)
		if err := made.add(i, tensor); err != nil {
			return made, err
		}
	}
	var err error
	if made.names, err = made.texts(names, "tensor's name"); err != nil {
		return made, err
	}
	return made, made.say(metadata)
}

func (b *cBundle) add(index int, named NamedView) error {
	view := named.View
	size, err := view.size()
	if err != nil {
		return invalid("tensor %q: %v", named.Name, err)
	}
	shape, strides, flags := view.c()
	data, ndim := unsafe.Pointer(firstByte(view.Data)), C.int32_t(len(view.Shape))
	tensor := C.copied_tensor(view.DType.c(), ndim, &shape[0], strides, data, C.size_t(size))
	if tensor == nil {
		return &Error{Status: OutOfMemory, Message: fmt.Sprintf("tensor %q: no memory for %d bytes", named.Name, size)}
	}
	b.tensors[index], b.flags[index] = tensor, flags
	b.frees = append(b.frees, func() { C.free(unsafe.Pointer(tensor)) })
	return nil
}

func (b *cBundle) say(metadata map[string]string) error {
	keys, values := []string{}, []string{}
	for key, value := range metadata {
		keys, values = append(keys, key), append(values, value)
	}
	var err error
	if b.options.metadata_keys, err = b.texts(keys, "metadata's key"); err != nil {
		return err
	}
	b.options.struct_size = C.size_t(unsafe.Sizeof(b.options))
	b.options.metadata_count = C.size_t(len(keys))
	b.options.metadata_values, err = b.texts(values, "metadata")
	return err
}

func (b *cBundle) texts(texts []string, what string) (**C.char, error) {
	made, free, err := cStrings(texts, what)
	if err == nil {
		b.frees = append(b.frees, free)
	}
	return made, err
}

// Bundle is tensors by their names, in one object, which is byte for byte a safetensors file.
type Bundle struct {
	names    []string
	tensors  map[string]*Tensor
	metadata map[string]string
}

// GetTensors gets a bundle without a copy, waiting for it; any safetensors file that was put as it is will do.
func (c *Client) GetTensors(ctx context.Context, id ObjectID, flags ...GetFlag) (*Bundle, error) {
	buffer, err := c.Get(ctx, id, flags...)
	if err != nil {
		return nil, err
	}
	defer buffer.Close()
	return buffer.Bundle()
}

// Bundle is the bundle in a buffer. Both are closed on their own.
func (b *Buffer) Bundle() (*Bundle, error) {
	var handle *C.tensor_bundle
	if err := b.use(func() C.plasma_status { return C.tensor_bundle_from_buffer(b.handle, &handle) }); err != nil {
		return nil, err
	}
	defer C.tensor_bundle_free(handle)
	bundle := &Bundle{tensors: map[string]*Tensor{}, metadata: map[string]string{}}
	if err := bundle.read(handle); err != nil {
		_ = bundle.Close()
		return nil, err
	}
	return bundle, nil
}

func (b *Bundle) read(handle *C.tensor_bundle) error {
	for i := C.size_t(0); i < C.tensor_bundle_size(handle); i++ {
		if err := b.add(handle, i); err != nil {
			return err
		}
	}
	for i := C.size_t(0); i < C.tensor_bundle_metadata_size(handle); i++ {
		var key, value *C.char
		if err := call(func() C.plasma_status { return C.tensor_bundle_metadata(handle, i, &key, &value) }); err != nil {
			return err
		}
		b.metadata[C.GoString(key)] = C.GoString(value)
	}
	return nil
}

func (b *Bundle) add(handle *C.tensor_bundle, index C.size_t) error {
	var text *C.char
	if err := call(func() C.plasma_status { return C.tensor_bundle_name(handle, index, &text) }); err != nil {
		return err
	}
	var part *C.plasma_buffer
	if err := call(func() C.plasma_status { return C.tensor_bundle_buffer(handle, index, &part) }); err != nil {
		return err
	}
	buffer, _ := newBuffer(part, nil)
	tensor, err := tensorOrClose(buffer)
	if err != nil {
		return err
	}
	name := C.GoString(text)
	b.names, b.tensors[name] = append(b.names, name), tensor
	return nil
}

// Close closes all tensors of the bundle. Slices of them must not be used any more.
func (b *Bundle) Close() error {
	for _, tensor := range b.tensors {
		_ = tensor.Close()
	}
	return nil
}

// Len is the number of tensors.
func (b *Bundle) Len() int { return len(b.names) }

// Names is those of the tensors, in the order in which they lie.
func (b *Bundle) Names() []string { return append([]string(nil), b.names...) }

// Tensor is the tensor of a name. It may be closed on its own, and keeps the object's memory without the bundle.
func (b *Bundle) Tensor(name string) (*Tensor, error) {
	tensor, ok := b.tensors[name]
	if !ok {
		return nil, invalid("%q is not one of the %d tensors", name, len(b.names))
	}
	return tensor, nil
}

// Metadata is what the writer had to say beside the tensors.
func (b *Bundle) Metadata() map[string]string {
	metadata := map[string]string{}
	for key, value := range b.metadata {
		metadata[key] = value
	}
	return metadata
}
