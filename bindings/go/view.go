package plasmastore

/*
#include <plasma_store.h>

// The struct is made here: Go must not give C a struct of its own that points at more of its own.
static plasma_status view_tensor(const plasma_buffer *buffer, int32_t ndim, const int64_t *shape,
                                 const int64_t *strides, int64_t offset, DLManagedTensorVersioned **out) {
  tensor_view_options options = {sizeof options, 0, ndim, shape, strides, offset};
  return tensor_view_versioned(buffer, &options, out);
}

static void let_go(DLManagedTensorVersioned *tensor) { tensor->deleter(tensor); }
*/
import "C"

import "unsafe"

// View is other elements of a tensor, without reading any: transposed, with gaps, of another shape. Strides, in
// elements, may be nil: row-major without gaps; offset is from the first element of the tensor to that of the view. It
// shares the tensor's buffer: closing either closes both.
func (t *Tensor) View(shape, strides []int, offset int) (*Tensor, error) {
	if strides != nil && len(strides) != len(shape) {
		return nil, invalid("%d strides for shape %v", len(strides), shape)
	}
	lengths, ndim := shapeOf(shape), C.int32_t(len(shape))
	var steps *C.int64_t
	if strides != nil {
		steps = &shapeOf(strides)[0]
	}
	begin := t.offset + offset
	var made *C.DLManagedTensorVersioned
	err := t.buffer.use(func() C.plasma_status {
		return C.view_tensor(t.buffer.handle, ndim, &lengths[0], steps, C.int64_t(begin), &made)
	})
	if err != nil {
		return nil, err
	}
	defer C.let_go(made)
	if made.flags&C.DLPACK_FLAG_BITMASK_IS_COPIED != 0 {
		return nil, invalid("the elements are not aligned to their size: use Copied")
	}
	view := t.described(&made.dl_tensor)
	view.offset = begin
	return view, nil
}

// described is a view in the same buffer as C tells of it.
func (t *Tensor) described(about *C.DLTensor) *Tensor {
	view := &Tensor{buffer: t.buffer, dtype: t.dtype, unnamed: true}
	view.data = unsafe.Add(about.data, uintptr(about.byte_offset))
	shape, strides := unsafe.Slice(about.shape, int(about.ndim)), unsafe.Slice(about.strides, int(about.ndim))
	for i := range shape {
		view.shape = append(view.shape, int(shape[i]))
		view.byteStrides = append(view.byteStrides, int(strides[i])*t.dtype.elementBytes())
	}
	return view
}

// Rows is count indices of the first dimension, from first on; it costs the same for a tensor of any size. It shares
// the tensor's buffer: closing either closes both.
func (t *Tensor) Rows(first, count int) (*Tensor, error) {
	if len(t.shape) == 0 || first < 0 || count < 0 || first > t.shape[0]-count {
		return nil, invalid("rows from %d on, %d of them, of shape %v", first, count, t.shape)
	}
	shape, strides := t.Shape(), t.strides()
	shape[0] = count
	step, _ := countOf(t.shape[1:])
	if strides != nil {
		step = strides[0]
	}
	rows, err := t.View(shape, strides, first*step)
	if err == nil {
		rows.unnamed = t.unnamed
	}
	return rows, err
}

// strides is in elements; nil where elements share bytes, which are row-major.
func (t *Tensor) strides() []int {
	width := t.dtype.elementBytes()
	if width == 0 {
		return nil
	}
	strides := t.ByteStrides()
	for i := range strides {
		strides[i] /= width
	}
	return strides
}

// Copied is a copy of all elements of any layout, with the last index running fastest.
func Copied[T Element](tensor *Tensor) ([]T, error) {
	if err := hasType[T](tensor); err != nil {
		return nil, err
	}
	tensor.buffer.mutex.RLock()
	defer tensor.buffer.mutex.RUnlock()
	if tensor.buffer.handle == nil {
		return nil, closed("tensor")
	}
	values, indices, place := make([]T, tensor.Len()), make([]int, len(tensor.shape)), 0
	for i := range values {
		values[i] = load[T](unsafe.Add(tensor.data, place))
		place += tensor.next(indices)
	}
	return values, nil
}

// next goes on to the next indices, and tells how many bytes further their element lies.
func (t *Tensor) next(indices []int) int {
	step := 0
	for i := len(indices) - 1; i >= 0; i-- {
		indices[i]++
		step += t.byteStrides[i]
		if indices[i] < t.shape[i] {
			break
		}
		step -= t.byteStrides[i] * indices[i]
		indices[i] = 0
	}
	return step
}

// DimensionName is the name that a dimension of the object's tensor has, "" where it has none. Rows keep them, other
// views have none.
func (t *Tensor) DimensionName(dimension int) (string, error) {
	if dimension < 0 || dimension >= len(t.shape) {
		return "", invalid("dimension %d of shape %v", dimension, t.shape)
	}
	if t.unnamed {
		return "", nil
	}
	return text(func(out *C.char, size C.size_t, length *C.size_t) error {
		return t.buffer.use(func() C.plasma_status {
			return C.tensor_dimension_name(t.buffer.handle, C.int32_t(dimension), out, size, length)
		})
	})
}
