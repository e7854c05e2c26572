package plasmastore

/*
#include <plasma_store.h>

#ifndef DLPACK_MAJOR_VERSION
#error this package wants a DLPack header of 1.0 or newer, or none
#endif

// The struct is made here: Go must not give C a struct of its own that points at more of its own.
static plasma_status write_tensor(plasma_client *client, const plasma_object_id *id, DLDataType dtype, int32_t ndim,
                                  int64_t *shape, int64_t *strides, void *data, uint64_t flags,
                                  tensor_write_options options, const uint8_t *metadata) {
  DLManagedTensorVersioned tensor = {{DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION}, NULL, NULL, flags,
                                     {data, {kDLCPU, 0}, ndim, dtype, shape, strides, 0}};
  options.metadata = metadata;
  return tensor_write_versioned(client, id, &tensor, &options);
}

static plasma_status create_tensor(plasma_client *client, const plasma_object_id *id, DLDataType dtype, int32_t ndim,
                                   const int64_t *shape, tensor_write_options options, const uint8_t *metadata,
                                   plasma_buffer **out) {
  options.metadata = metadata;
  return tensor_create_buffer(client, id, dtype, ndim, shape, &options, out);
}
*/
import "C"

import (
	"context"
	"math/bits"
	"unsafe"
)

// Tensor is a tensor in the memory of an object.
type Tensor struct {
	buffer      *Buffer
	dtype       DType
	shape       []int
	byteStrides []int
	data        unsafe.Pointer
	offset      int  // of a view, from the object's first element to its own
	unnamed     bool // a view whose dimensions are others than those of the object
}

// Tensor is the tensor in a buffer. It shares the buffer: closing either closes both.
func (b *Buffer) Tensor() (*Tensor, error) {
	about := C.tensor_description{}
	about.struct_size = C.size_t(unsafe.Sizeof(about))
	if err := b.use(func() C.plasma_status { return C.tensor_describe(b.handle, &about) }); err != nil {
		return nil, err
	}
	tensor := &Tensor{buffer: b, data: unsafe.Pointer(about.data)}
	tensor.dtype, tensor.shape = typeAndShape(&about)
	for i := range tensor.shape {
		tensor.byteStrides = append(tensor.byteStrides, int(about.byte_strides[i]))
	}
	return tensor, nil
}

// typeAndShape is what C tells of a tensor; the shape is never nil.
func typeAndShape(about *C.tensor_description) (DType, []int) {
	shape := make([]int, int(about.ndim))
	for i := range shape {
		shape[i] = int(about.shape[i])
	}
	return DType{TypeCode(about.dtype.code), uint8(about.dtype.bits), uint16(about.dtype.lanes)}, shape
}

// copied is nil for nil.
func copied(shape []int) []int {
	if shape == nil {
		return nil
	}
	return append([]int{}, shape...)
}

// GetTensor gets a tensor without a copy, waiting for it.
func (c *Client) GetTensor(ctx context.Context, id ObjectID, flags ...GetFlag) (*Tensor, error) {
	buffer, err := c.Get(ctx, id, flags...)
	if err != nil {
		return nil, err
	}
	return tensorOrClose(buffer)
}

func tensorOrClose(buffer *Buffer) (*Tensor, error) {
	tensor, err := buffer.Tensor()
	if err != nil {
		_ = buffer.Close()
	}
	return tensor, err
}

// Close releases the tensor's memory. Slices of it must not be used any more.
func (t *Tensor) Close() error { return t.buffer.Close() }

// Buffer is the object that the tensor lies in.
func (t *Tensor) Buffer() *Buffer { return t.buffer }

// DType is the type of its elements.
func (t *Tensor) DType() DType { return t.dtype }

// Shape is the length along each dimension.
func (t *Tensor) Shape() []int { return copied(t.shape) }

// ByteStrides is the bytes from one element to the next along each dimension.
func (t *Tensor) ByteStrides() []int { return append([]int(nil), t.byteStrides...) }

// Len is the number of elements.
func (t *Tensor) Len() int {
	count, _ := countOf(t.shape)
	return count
}

// IsRowMajor tells whether elements lie one after the other, the last index first.
func (t *Tensor) IsRowMajor() bool {
	expected := t.dtype.elementBytes()
	if expected == 0 || t.Len() == 0 {
		return true
	}
	for i := len(t.shape) - 1; i >= 0; i-- {
		if t.shape[i] != 1 && t.byteStrides[i] != expected {
			return false
		}
		expected *= t.shape[i]
	}
	return true
}

// Values is all elements of a row-major tensor, not to be written.
func Values[T Element](tensor *Tensor) ([]T, error) {
	if err := fits[T](tensor, tensor.buffer.Data()); err != nil {
		return nil, err
	}
	var value T
	if place := uintptr(tensor.data) % unsafe.Alignof(value); place != 0 && tensor.Len() > 0 {
		return nil, invalid("elements lie %d bytes behind a multiple of %d: use Copied", place, unsafe.Alignof(value))
	}
	return unsafe.Slice((*T)(tensor.data), tensor.Len()), nil
}

// MutableValues is the same for writing, of a tensor that is being created or was got with Private.
func MutableValues[T Element](tensor *Tensor) ([]T, error) {
	if tensor.buffer.Mutable() == nil {
		return nil, invalid("the tensor is read-only, or closed")
	}
	return Values[T](tensor)
}

// At is the element at an index for each dimension, in any layout.
func At[T Element](tensor *Tensor, indices ...int) (T, error) {
	var value T
	if err := hasType[T](tensor); err != nil {
		return value, err
	}
	if len(indices) != len(tensor.shape) {
		return value, invalid("%d indices for shape %v", len(indices), tensor.shape)
	}
	offset := 0
	for i, index := range indices {
		if index < 0 || index >= tensor.shape[i] {
			return value, invalid("index %d of dimension %d in shape %v", index, i, tensor.shape)
		}
		offset += index * tensor.byteStrides[i]
	}
	tensor.buffer.mutex.RLock()
	defer tensor.buffer.mutex.RUnlock()
	if tensor.buffer.handle == nil {
		return value, closed("tensor")
	}
	return load[T](unsafe.Add(tensor.data, offset)), nil
}

// load is an element that may lie at any byte, as in files of others.
func load[T Element](place unsafe.Pointer) T {
	var value T
	size := unsafe.Sizeof(value)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&value)), size), unsafe.Slice((*byte)(place), size))
	return value
}

// Bytes is the bytes of all elements of a row-major tensor, of any type, not to be written.
func (t *Tensor) Bytes() ([]byte, error) {
	if err := t.isDense(t.buffer.Data()); err != nil {
		return nil, err
	}
	size, _ := t.dtype.bytesOf(t.Len())
	return unsafe.Slice((*byte)(t.data), size), nil
}

func (t *Tensor) isDense(data []byte) error {
	if data == nil {
		return closed("tensor")
	}
	if !t.IsRowMajor() {
		return invalid("the tensor of shape %v is not row-major: use At", t.shape)
	}
	return nil
}

func hasType[T Element](tensor *Tensor) error {
	if wanted := DTypeOf[T](); tensor.dtype != wanted {
		return invalid("elements are %v, not %v", tensor.dtype, wanted)
	}
	return nil
}

func fits[T Element](tensor *Tensor, data []byte) error {
	if err := hasType[T](tensor); err != nil {
		return err
	}
	return tensor.isDense(data)
}

// countOf counts the elements of a shape; false where a length is negative, or they are too many to be counted.
func countOf(shape []int) (int, bool) {
	count, fits := uint(1), true
	for _, length := range shape {
		if length < 0 {
			return 0, false
		}
		if length == 0 {
			return 0, true
		}
		high, low := bits.Mul(count, uint(length))
		fits = fits && high == 0 && low <= 1<<62
		count = low
	}
	return int(count), fits
}

// PutTensor stores a copy of values, which are row-major in a shape.
func PutTensor[T Element](client *Client, id ObjectID, values []T, shape ...int) error {
	return PutTensorWith(client, id, CreateOptions{}, values, shape...)
}

// PutTensorWith is PutTensor with options.
func PutTensorWith[T Element](client *Client, id ObjectID, options CreateOptions, values []T, shape ...int) error {
	return client.PutView(id, ViewOf(values, shape...), options)
}

// PutTensorBytes stores a copy of elements of any type, which are row-major in a shape; those below 8 bits share bytes.
func (c *Client) PutTensorBytes(id ObjectID, dtype DType, data []byte, shape []int, options CreateOptions) error {
	count, countable := countOf(shape)
	size, measurable := dtype.bytesOf(count)
	if !countable || !measurable || size != len(data) {
		return invalid("%d bytes for a tensor of shape %v of %v", len(data), shape, dtype)
	}
	return c.PutView(id, TensorView{DType: dtype, Data: data, Shape: shape}, options)
}

// TensorView is elements in memory of the caller's, of any type and at any distance from each other, to be read
// during a call.
type TensorView struct {
	DType   DType
	Data    []byte // from the first element on
	Shape   []int
	Strides []int // from one element to the next along each dimension, in elements; nil is row-major without gaps
	Padded  bool  // elements below 8 bits have a byte each
	wrong   error // why there is no such view
}

// ViewOf is values, which are row-major in a shape.
func ViewOf[T Element](values []T, shape ...int) TensorView {
	view := TensorView{DType: DTypeOf[T](), Shape: shape}
	if count, ok := countOf(shape); !ok || count != len(values) {
		view.wrong = invalid("%d values for a tensor of shape %v", len(values), shape)
	} else if count > 0 {
		view.Data = unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), count*int(unsafe.Sizeof(values[0])))
	}
	return view
}

// size is the bytes of Data that are read; the error tells what would be read outside of it.
func (v TensorView) size() (int, error) {
	if v.wrong != nil {
		return 0, v.wrong
	}
	count, countable := countOf(v.Shape)
	if v.Strides != nil && countable {
		if len(v.Strides) != len(v.Shape) {
			return 0, invalid("%d strides for shape %v", len(v.Strides), v.Shape)
		}
		count, countable = reach(v.Shape, v.Strides, count)
	}
	width := v.DType
	if v.Padded && int(width.Bits)*int(width.Lanes) < 8 {
		width = DTypeOf[uint8]()
	}
	size, measurable := width.bytesOf(count)
	if !countable || !measurable || size > len(v.Data) {
		return 0, invalid("%d bytes for shape %v and strides %v of %v", len(v.Data), v.Shape, v.Strides, v.DType)
	}
	return size, nil
}

// c is shape and strides for C, each with one more so that there is a first, nil for no strides; and flags.
func (v TensorView) c() ([]C.int64_t, *C.int64_t, C.uint64_t) {
	var strides *C.int64_t
	if v.Strides != nil {
		strides = &shapeOf(v.Strides)[0]
	}
	if v.Padded {
		return shapeOf(v.Shape), strides, C.DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED
	}
	return shapeOf(v.Shape), strides, 0
}

// unpadded is the same where there is no place for flags.
func (v TensorView) unpadded() ([]C.int64_t, *C.int64_t, unsafe.Pointer, error) {
	if _, err := v.size(); err != nil {
		return nil, nil, nil, err
	}
	if v.Padded {
		return nil, nil, nil, invalid("elements of %v that have a byte each: pack them", v.DType)
	}
	lengths, strides, _ := v.c()
	return lengths, strides, unsafe.Pointer(firstByte(v.Data)), nil
}

// reach is how many elements there are up to the last of a shape with strides; false where one lies before the first,
// or they are too many to be counted.
func reach(shape, strides []int, count int) (int, bool) {
	if count == 0 {
		return 0, true
	}
	last := uint(0)
	for i, stride := range strides {
		if shape[i] == 1 {
			continue
		}
		high, low := bits.Mul(uint(shape[i]-1), uint(stride))
		if stride < 0 || high != 0 || low > 1<<62 || last+low > 1<<62 {
			return 0, false
		}
		last += low
	}
	return int(last) + 1, true
}

// PutView stores a copy of elements of any type and layout. A column-major tensor stays one, others become row-major.
func (c *Client) PutView(id ObjectID, view TensorView, options CreateOptions) error {
	if _, err := view.size(); err != nil {
		return err
	}
	named, free, err := dimensionNames(options, len(view.Shape))
	if err != nil {
		return err
	}
	defer free()
	lengths, strides, flags := view.c()
	data, ndim := unsafe.Pointer(firstByte(view.Data)), C.int32_t(len(view.Shape))
	return c.create(options, func(create *C.plasma_create_options) C.plasma_status {
		wanted, metadata := writeOptions(options, create, named), firstByte(options.Metadata)
		return C.write_tensor(c.handle, id.c(), view.DType.c(), ndim, &lengths[0], strides, data, flags, wanted, metadata)
	})
}

// CreateTensor creates a row-major tensor, to be filled in place by MutableValues and then sealed.
func (c *Client) CreateTensor(id ObjectID, dtype DType, shape []int, options CreateOptions) (*Tensor, error) {
	lengths := shapeOf(shape)
	named, free, err := dimensionNames(options, len(shape))
	if err != nil {
		return nil, err
	}
	defer free()
	var handle *C.plasma_buffer
	err = c.create(options, func(create *C.plasma_create_options) C.plasma_status {
		wanted, metadata := writeOptions(options, create, named), firstByte(options.Metadata)
		return C.create_tensor(c.handle, id.c(), dtype.c(), C.int32_t(len(shape)), &lengths[0], wanted, metadata, &handle)
	})
	buffer, err := newBuffer(handle, err)
	if err != nil {
		return nil, err
	}
	return tensorOrClose(buffer)
}

func (t DType) c() C.DLDataType {
	return C.DLDataType{code: C.uint8_t(t.Code), bits: C.uint8_t(t.Bits), lanes: C.uint16_t(t.Lanes)}
}

// shapeOf is a shape as C wants it, with one more so that there is a first.
func shapeOf(shape []int) []C.int64_t {
	lengths := make([]C.int64_t, len(shape)+1)
	for i, length := range shape {
		lengths[i] = C.int64_t(length)
	}
	return lengths
}

// writeOptions has all but the metadata, whose place Go must not point at.
func writeOptions(options CreateOptions, create *C.plasma_create_options, named **C.char) C.tensor_write_options {
	made := C.tensor_write_options{flags: create.flags, ttl_ms: create.ttl_ms, wait_ms: create.wait_ms, name: create.name}
	made.struct_size = C.size_t(unsafe.Sizeof(made))
	made.metadata_size = C.uint64_t(len(options.Metadata))
	made.dimension_names = named
	return made
}

// dimensionNames is those of a tensor for C, and what frees them when the call is done.
func dimensionNames(options CreateOptions, ndim int) (**C.char, func(), error) {
	if options.DimensionNames == nil {
		return nil, func() {}, nil
	}
	if len(options.DimensionNames) != ndim {
		return nil, nil, invalid("%d names for %d dimensions", len(options.DimensionNames), ndim)
	}
	return cStrings(options.DimensionNames, "dimension's name")
}
