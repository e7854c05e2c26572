package plasmastore

import (
	"context"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"
)

// patience is for what comes at once when nothing is wrong.
const patience = time.Minute

var background = context.Background()

// fresh starts a store and connects to it; both end with the test.
func fresh(t *testing.T) (*Store, *Client) {
	t.Helper()
	store, err := StartStore(StoreOptions{Capacity: 8 << 20})
	must(t, err)
	client, err := Connect(store.Socket())
	must(t, err)
	t.Cleanup(func() {
		must(t, client.Close())
		must(t, store.Close())
	})
	return store, client
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fails checks that a call failed with a status.
func fails(t *testing.T, err error, status error) {
	t.Helper()
	if !errors.Is(err, status) {
		t.Fatalf("got %v, not %v", err, status)
	}
}

func same(t *testing.T, got, wanted any) {
	t.Helper()
	if !reflect.DeepEqual(got, wanted) {
		t.Fatalf("got %v, not %v", got, wanted)
	}
}

func random(t *testing.T) ObjectID {
	t.Helper()
	id, err := RandomID()
	must(t, err)
	return id
}

// got is a tensor in the store that closes with the test.
func got(t *testing.T, client *Client, id ObjectID) *Tensor {
	t.Helper()
	tensor, err := client.GetTensor(background, id)
	must(t, err)
	t.Cleanup(func() { must(t, tensor.Close()) })
	return tensor
}

// stored puts values as a tensor and gets it.
func stored[T Element](t *testing.T, client *Client, options CreateOptions, values []T, shape ...int) *Tensor {
	t.Helper()
	id := random(t)
	must(t, PutTensorWith(client, id, options, values, shape...))
	return got(t, client, id)
}

func TestIDs(t *testing.T) {
	id, err := NamedID("", "matrix")
	must(t, err)
	parsed, err := ParseID(id.String())
	must(t, err)
	same(t, parsed, id)
	other, err := NamedID("examples", "matrix")
	must(t, err)
	same(t, other == id, false)
	_, err = ParseID("12")
	fails(t, err, InvalidArgument)
	_, err = ParseID(strings.Repeat("x", 40))
	fails(t, err, InvalidArgument)
	_, err = NamedID("", "a\x00b")
	fails(t, err, InvalidArgument)
	same(t, strings.Contains(err.Error(), "at 1"), true)
	same(t, random(t) == random(t), false)
}

func TestErrors(t *testing.T) {
	_, err := Connect("/nowhere.sock")
	fails(t, err, ConnectFailed)
	same(t, strings.Contains(err.Error(), "/nowhere.sock"), true)
	same(t, errors.Is(err, Timeout), false)
	var detailed *Error
	same(t, errors.As(err, &detailed) && detailed.Status == ConnectFailed, true)
	_, err = Connect("a\x00b")
	fails(t, err, InvalidArgument)
	_, err = ConnectContext(background, "/nowhere.sock", ConnectOptions{Spin: -1})
	fails(t, err, InvalidArgument)
	same(t, Timeout.Error() != "" && Version() != "", true)
}

func TestConnectingWaitsForAStore(t *testing.T) {
	soon, cancel := context.WithTimeout(background, time.Millisecond)
	defer cancel()
	_, err := ConnectContext(soon, "/nowhere.sock", ConnectOptions{})
	fails(t, err, context.DeadlineExceeded)
	store, _ := fresh(t)
	client, err := ConnectContext(background, store.Socket(), ConnectOptions{Spin: time.Microsecond, CopyThreads: 2})
	must(t, err)
	must(t, client.Close())
	_, err = StartStore(StoreOptions{Socket: store.Socket()})
	fails(t, err, AddressInUse)
}

func TestObjects(t *testing.T) {
	_, client := fresh(t)
	id := random(t)
	created, err := client.Create(id, 11, CreateOptions{Metadata: []byte("about")})
	must(t, err)
	copy(created.Mutable(), "hello")
	_, err = created.WriteAt([]byte(" world"), 5)
	must(t, err)
	_, err = created.WriteAt([]byte("too long"), 5)
	fails(t, err, InvalidArgument)
	fails(t, client.Abort(id), Busy)
	must(t, client.Seal(id))
	same(t, created.Mutable() == nil, true)
	buffer, err := client.Get(background, id)
	must(t, err)
	same(t, string(buffer.Data()), "hello world")
	same(t, string(buffer.Metadata()), "about")
	its, err := buffer.ID()
	must(t, err)
	same(t, its, id)
	fails(t, client.Put(id, nil, CreateOptions{}), ObjectExists)
	became, err := client.Delete(id, random(t))
	must(t, err)
	same(t, became, []error{ObjectInUse, ObjectNotFound})
	must(t, buffer.Close())
	must(t, buffer.Close())
	same(t, buffer.Data() == nil, true)
	_, err = buffer.ID()
	fails(t, err, InvalidArgument)
	must(t, created.Close())
	there, err := client.Contains(id)
	must(t, err)
	same(t, there, false)
}

func TestPrivateCopies(t *testing.T) {
	_, client := fresh(t)
	id := random(t)
	must(t, client.Put(id, []byte("shared"), CreateOptions{}))
	mine, err := client.Get(background, id, Private)
	must(t, err)
	defer mine.Close()
	mine.Mutable()[0] = 'S'
	theirs, err := client.Get(background, id)
	must(t, err)
	defer theirs.Close()
	same(t, string(mine.Data())+string(theirs.Data()), "Sharedshared")
}

func TestImmutableObjects(t *testing.T) {
	_, client := fresh(t)
	id := random(t)
	created, err := client.Create(id, 4, CreateOptions{Immutable: true})
	must(t, err)
	copy(created.Mutable(), "kept")
	fails(t, client.Seal(id), Busy)
	must(t, created.Close())
	must(t, client.Seal(id))
	buffer, err := client.Get(background, id)
	must(t, err)
	defer buffer.Close()
	same(t, buffer.IsImmutable() && string(buffer.Data()) == "kept", true)
	same(t, created.IsImmutable(), false)
}

func TestSeveralAtOnce(t *testing.T) {
	_, client := fresh(t)
	first, second, missing := random(t), random(t), random(t)
	items := []PutItem{{ID: first, Data: []byte("1"), Name: "of a batch"}, {ID: second, Metadata: []byte("m")}}
	fails(t, client.PutBatch(items), InvalidArgument)
	first, err := NamedID("", "of a batch")
	must(t, err)
	items[0].ID = first
	must(t, client.PutBatch(items))
	its, err := client.NameOf(first)
	must(t, err)
	other, err := client.NameOf(second)
	must(t, err)
	same(t, its+"|"+other, "of a batch|")
	must(t, client.PutBatch(nil))
	fails(t, client.PutBatch(items), ObjectExists)
	buffers, err := client.GetAll(background, []ObjectID{second, first})
	must(t, err)
	same(t, string(buffers[0].Metadata())+string(buffers[1].Data()), "m1")
	some, err := client.GetAvailable([]ObjectID{missing, first})
	must(t, err)
	same(t, some[0] == nil && string(some[1].Data()) == "1", true)
	_, err = client.Get(background, missing, NoAsk)
	fails(t, err, Timeout)
	none, err := client.GetAll(background, nil)
	must(t, err)
	same(t, len(none), 0)
}

func TestStreams(t *testing.T) {
	_, client := fresh(t)
	put, sealed := random(t), random(t)
	buffer, err := client.Create(sealed, 1, CreateOptions{NoEvict: true})
	must(t, err)
	defer buffer.Close()
	must(t, client.PutAsync(put, []byte("soon"), CreateOptions{}))
	must(t, client.SealAsync(sealed))
	must(t, client.Flush())
	must(t, client.PutAsync(put, []byte("twice"), CreateOptions{}))
	fails(t, client.Flush(), ObjectExists)
}

func TestRoom(t *testing.T) {
	_, client := fresh(t)
	_, err := client.Create(random(t), 9<<20, CreateOptions{Wait: time.Nanosecond})
	fails(t, err, StoreFull)
	_, err = client.Create(random(t), -1, CreateOptions{})
	fails(t, err, InvalidArgument)
	fails(t, client.Put(random(t), nil, CreateOptions{TTL: -1}), InvalidArgument)
	same(t, milliseconds(1500*time.Microsecond), milliseconds(2*time.Millisecond))
}

func TestControl(t *testing.T) {
	_, client := fresh(t)
	id := random(t)
	must(t, client.Put(id, []byte("listed"), CreateOptions{}))
	must(t, client.Pin(id))
	objects, err := client.List()
	must(t, err)
	same(t, len(objects) == 1 && objects[0].ID == id && objects[0].Sealed && objects[0].Pinned, true)
	same(t, objects[0].DataSize == 6 && objects[0].ConstructDuration >= 0 && objects[0].Created.Year() > 2000, true)
	must(t, client.Unpin(id))
	fails(t, client.Pin(random(t)), ObjectNotFound)
	must(t, client.Refresh(id))
	digest, err := client.Hash(id)
	must(t, err)
	same(t, digest != [8]byte{}, true)
	evicted, err := client.Evict(1)
	must(t, err)
	same(t, evicted >= 6, true)
	must(t, client.SetOptions("go", 1<<20))
	stats, err := client.Stats()
	must(t, err)
	capacity, err := client.Capacity()
	must(t, err)
	same(t, stats.Capacity == capacity && stats.Clients == 1 && stats.Evictions == 1, true)
	text, err := client.DebugString()
	must(t, err)
	same(t, strings.Contains(text, ": "), true)
}

func roundTrip[T Element](t *testing.T, client *Client, name string, values ...T) {
	t.Helper()
	same(t, DTypeOf[T]().String(), name)
	id := random(t)
	err := PutTensor(client, id, values, 1, len(values))
	if errors.Is(err, Unsupported) {
		return
	}
	must(t, err)
	tensor := got(t, client, id)
	read, err := Values[T](tensor)
	must(t, err)
	same(t, read, values)
	last, err := At[T](tensor, 0, len(values)-1)
	must(t, err)
	same(t, last, values[len(values)-1])
	bytes, err := tensor.Bytes()
	must(t, err)
	same(t, len(bytes), len(values)*int(unsafe.Sizeof(values[0])))
}

func TestElementTypes(t *testing.T) {
	_, client := fresh(t)
	roundTrip[int8](t, client, "int8", -1, 2)
	roundTrip[int16](t, client, "int16", -1, 2)
	roundTrip[int32](t, client, "int32", -1, 2)
	roundTrip[int64](t, client, "int64", -1, 2)
	roundTrip[uint8](t, client, "uint8", 1, 2)
	roundTrip[uint16](t, client, "uint16", 1, 2)
	roundTrip[uint32](t, client, "uint32", 1, 2)
	roundTrip[uint64](t, client, "uint64", 1, 2)
	roundTrip[float32](t, client, "float32", 1.5)
	roundTrip[float64](t, client, "float64", 1.5)
	roundTrip[complex64](t, client, "complex64", 1+2i)
	roundTrip[complex128](t, client, "complex128", 1+2i)
	roundTrip(t, client, "bool", true, false)
	roundTrip[Float16](t, client, "float16", 0x3c00)
	roundTrip[Bfloat16](t, client, "bfloat16", 0x3f80)
	roundTrip[Complex32](t, client, "complex32", 0x3c00)
	roundTrip[Bcomplex32](t, client, "bcomplex32", 0x3f80)
	roundTrip[F8E3M4](t, client, "float8_e3m4", 1)
	roundTrip[F8E4M3](t, client, "float8_e4m3", 1)
	roundTrip[F8E4M3B11FNUZ](t, client, "float8_e4m3b11fnuz", 1)
	roundTrip[F8E4M3FN](t, client, "float8_e4m3fn", 1)
	roundTrip[F8E4M3FNUZ](t, client, "float8_e4m3fnuz", 1)
	roundTrip[F8E5M2](t, client, "float8_e5m2", 1)
	roundTrip[F8E5M2FNUZ](t, client, "float8_e5m2fnuz", 1)
	roundTrip[F8E8M0FNU](t, client, "float8_e8m0fnu", 1)
}

// Those that share bytes, those of several lanes, and those of a code that nobody has given out yet.
func TestElementTypesWithoutAType(t *testing.T) {
	_, client := fresh(t)
	for name, dtype := range map[string]DType{
		"float4_e2m1fn": {Float4E2M1FN, 4, 1}, "float6_e2m3fn": {Float6E2M3FN, 6, 1}, "float32x4": {Float, 32, 4},
		"float4_e2m1fn_x2": {Float4E2M1FN, 4, 2}, "int4": {Int, 4, 1}, "DLPack type 99 of 8 bits": {99, 8, 1},
	} {
		same(t, dtype.String(), name)
		size, _ := dtype.bytesOf(8)
		id, data := random(t), make([]byte, size)
		data[0] = 1
		err := client.PutTensorBytes(id, dtype, data, []int{2, 4}, CreateOptions{})
		if errors.Is(err, Unsupported) {
			continue
		}
		must(t, err)
		read, err := got(t, client, id).Bytes()
		must(t, err)
		same(t, read, data)
	}
}

func TestTensorsThatCannotBe(t *testing.T) {
	_, client := fresh(t)
	id := random(t)
	err := PutTensor(client, id, make([]float32, 6), 2, 4)
	fails(t, err, InvalidArgument)
	same(t, err.Error(), "6 values for a tensor of shape [2 4]")
	fails(t, PutTensor(client, id, make([]float32, 6), -2, -3), InvalidArgument)
	fails(t, PutTensor(client, id, make([]float32, 0), 1<<40, 1<<40), InvalidArgument)
	fails(t, client.PutTensorBytes(id, DType{Float, 32, 1}, make([]byte, 7), []int{2}, CreateOptions{}), InvalidArgument)
	size, _ := DType{Float6E2M3FN, 6, 1}.bytesOf(5)
	same(t, size, 4)
	_, countable := DType{Float, 64, 1}.bytesOf(1 << 62)
	same(t, countable, false)
	must(t, client.Put(id, []byte("no tensor"), CreateOptions{}))
	_, err = client.GetTensor(background, id)
	fails(t, err, Corrupt)
	must(t, PutTensor(client, random(t), []float64{}, 3, 0))
	must(t, PutTensor(client, random(t), []float64{1}))
}

func TestTensorsAreFilledInPlace(t *testing.T) {
	_, client := fresh(t)
	id := random(t)
	tensor, err := client.CreateTensor(id, DTypeOf[int32](), []int{2, 3}, CreateOptions{Metadata: []byte("counts")})
	must(t, err)
	defer tensor.Close()
	values, err := MutableValues[int32](tensor)
	must(t, err)
	for i := range values {
		values[i] = int32(i)
	}
	must(t, client.Seal(id))
	_, err = MutableValues[int32](tensor)
	fails(t, err, InvalidArgument)
	got := got(t, client, id)
	element, err := At[int32](got, 1, 1)
	must(t, err)
	same(t, element, int32(4))
	same(t, got.Shape(), []int{2, 3})
	same(t, got.ByteStrides(), []int{12, 4})
	same(t, string(got.Buffer().Metadata()), "counts")
	_, err = At[int32](got, 2, 0)
	fails(t, err, InvalidArgument)
	_, err = At[int32](got, 0)
	fails(t, err, InvalidArgument)
	_, err = Values[float32](got)
	fails(t, err, InvalidArgument)
	must(t, got.Close())
	_, err = Values[int32](got)
	fails(t, err, InvalidArgument)
	_, err = At[int32](got, 0, 0)
	fails(t, err, InvalidArgument)
}

func TestDimensionsHaveNames(t *testing.T) {
	_, client := fresh(t)
	named := CreateOptions{DimensionNames: []string{"row", ""}}
	tensor := stored(t, client, named, []float32{1, 2, 3, 4, 5, 6}, 3, 2)
	rows, err := tensor.Rows(1, 2)
	must(t, err)
	for _, each := range []*Tensor{tensor, rows} {
		name, err := each.DimensionName(0)
		must(t, err)
		none, err := each.DimensionName(1)
		must(t, err)
		same(t, name+"|"+none, "row|")
	}
	_, err = tensor.DimensionName(2)
	fails(t, err, InvalidArgument)
	err = PutTensorWith(client, random(t), named, []float32{1}, 1)
	fails(t, err, InvalidArgument)
	same(t, err.Error(), "2 names for 1 dimensions")
	_, err = client.CreateTensor(random(t), DTypeOf[int8](), []int{1}, CreateOptions{DimensionNames: []string{"a\x00b"}})
	fails(t, err, InvalidArgument)
	must(t, tensor.Close())
	_, err = tensor.DimensionName(0)
	fails(t, err, InvalidArgument)
}

func TestViews(t *testing.T) {
	_, client := fresh(t)
	tensor := stored(t, client, CreateOptions{}, []float32{1, 2, 3, 4, 5, 6}, 3, 2)
	rows, err := tensor.Rows(1, 2)
	must(t, err)
	values, err := Values[float32](rows)
	must(t, err)
	same(t, values, []float32{3, 4, 5, 6})
	same(t, uintptr(rows.data)-uintptr(tensor.data), uintptr(8))
	none, err := tensor.Rows(3, 0)
	must(t, err)
	same(t, none.Shape(), []int{0, 2})
	turned, err := rows.View([]int{2, 2}, []int{1, 2}, 0)
	must(t, err)
	same(t, turned.ByteStrides(), []int{4, 8})
	copied, err := Copied[float32](turned)
	must(t, err)
	same(t, copied, []float32{3, 5, 4, 6})
	last, err := turned.Rows(1, 1)
	must(t, err)
	element, err := At[float32](last, 0, 1)
	must(t, err)
	same(t, element, float32(6))
	number, err := tensor.View([]int{}, nil, 5)
	must(t, err)
	copied, err = Copied[float32](number)
	must(t, err)
	same(t, copied, []float32{6})
	_, err = Copied[float64](number)
	fails(t, err, InvalidArgument)
}

func TestViewsThatCannotBe(t *testing.T) {
	_, client := fresh(t)
	tensor := stored(t, client, CreateOptions{}, []float32{1, 2, 3, 4, 5, 6}, 3, 2)
	for _, wrong := range [][2]int{{2, 2}, {-1, 1}, {0, -1}, {1 << 62, 1 << 62}} {
		_, err := tensor.Rows(wrong[0], wrong[1])
		fails(t, err, InvalidArgument)
	}
	_, err := tensor.View([]int{2, 2}, []int{1}, 0)
	fails(t, err, InvalidArgument)
	_, err = tensor.View([]int{2, 2}, nil, 3)
	fails(t, err, InvalidArgument)
	must(t, tensor.Close())
	_, err = tensor.Rows(0, 1)
	fails(t, err, InvalidArgument)
	_, err = Copied[float32](tensor)
	fails(t, err, InvalidArgument)
}

func TestViewsThatArePut(t *testing.T) {
	_, client := fresh(t)
	columns, small := random(t), random(t)
	view := TensorView{DType: DTypeOf[uint8](), Data: []byte{1, 2, 3, 4, 5, 6}, Shape: []int{2, 3}, Strides: []int{1, 2}}
	must(t, client.PutView(columns, view, CreateOptions{}))
	tensor := got(t, client, columns)
	same(t, tensor.ByteStrides(), []int{1, 2})
	copied, err := Copied[uint8](tensor)
	must(t, err)
	same(t, copied, []byte{1, 3, 5, 2, 4, 6})
	int4 := DType{Int, 4, 1}
	padded := TensorView{DType: int4, Data: []byte{1, 2, 3, 4}, Shape: []int{4}, Padded: true}
	must(t, client.PutView(small, padded, CreateOptions{}))
	packed := got(t, client, small)
	rows, err := packed.Rows(2, 2)
	must(t, err)
	bytes, err := rows.Bytes()
	must(t, err)
	same(t, bytes, []byte{0x43})
	_, err = packed.Rows(1, 2)
	fails(t, err, Unsupported)
	wide := TensorView{DType: DTypeOf[float32](), Data: make([]byte, 4), Shape: []int{2}, Padded: true}
	fails(t, client.PutView(random(t), wide, CreateOptions{}), InvalidArgument)
	for _, strides := range [][]int{{3, 2}, {-1, 2}, {1}, {1, 1 << 62}} {
		view.Strides = strides
		fails(t, client.PutView(random(t), view, CreateOptions{}), InvalidArgument)
	}
}

// What a context ends leaves other calls waiting.
func TestContextsEndWaits(t *testing.T) {
	_, client := fresh(t)
	wanted := random(t)
	var group sync.WaitGroup
	group.Add(1)
	go func() {
		defer group.Done()
		buffer, err := client.Get(background, wanted)
		if err != nil || string(buffer.Data()) != "there" {
			t.Errorf("got %v", err)
		}
	}()
	soon, cancel := context.WithTimeout(background, 10*time.Millisecond)
	defer cancel()
	_, err := client.Get(soon, random(t))
	fails(t, err, context.DeadlineExceeded)
	fails(t, err, Timeout)
	ended, end := context.WithCancel(background)
	time.AfterFunc(10*time.Millisecond, end)
	_, err = client.Get(ended, random(t))
	fails(t, err, context.Canceled)
	fails(t, err, Interrupted)
	_, err = client.GetTensor(ended, wanted)
	fails(t, err, context.Canceled)
	must(t, client.Put(wanted, []byte("there"), CreateOptions{}))
	group.Wait()
}

func TestClosingEndsWaits(t *testing.T) {
	store, client := fresh(t)
	ended := make(chan error)
	go func() {
		_, err := client.Get(background, random(t))
		ended <- err
	}()
	other, err := Connect(store.Socket())
	must(t, err)
	defer other.Close()
	for waiting := uint64(0); waiting == 0; {
		stats, err := other.Stats()
		must(t, err)
		waiting = stats.WaitingGets
	}
	must(t, client.Close())
	fails(t, <-ended, InvalidArgument)
	fails(t, client.Put(random(t), nil, CreateOptions{}), InvalidArgument)
	client.Interrupt()
}

func TestInterrupt(t *testing.T) {
	_, client := fresh(t)
	ended := make(chan error)
	go func() {
		_, err := client.Get(background, random(t))
		ended <- err
	}()
	for {
		client.Interrupt()
		select {
		case err := <-ended:
			fails(t, err, Interrupted)
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func TestEvents(t *testing.T) {
	store, client := fresh(t)
	subscription, err := client.Subscribe(true)
	must(t, err)
	id := random(t)
	must(t, client.Put(id, []byte("seen"), CreateOptions{}))
	_, err = client.Delete(id)
	must(t, err)
	soon, cancel := context.WithTimeout(background, patience)
	defer cancel()
	event, err := subscription.Next(soon)
	must(t, err)
	same(t, event, Event{Sealed, id, 4, 0})
	event, err = subscription.Next(soon)
	must(t, err)
	same(t, event, Event{Deleted, id, 0, 0})
	short, cancel := context.WithTimeout(background, time.Millisecond)
	defer cancel()
	_, err = subscription.Next(short)
	fails(t, err, context.DeadlineExceeded)
	must(t, store.Close())
	_, err = subscription.Next(soon)
	fails(t, err, Disconnected)
	must(t, subscription.Close())
	_, err = subscription.Next(soon)
	fails(t, err, InvalidArgument)
}

// What nobody closes is given back when nobody has it.
func TestForgottenBuffersAreGivenBack(t *testing.T) {
	_, client := fresh(t)
	id := random(t)
	must(t, client.Put(id, []byte("forgotten"), CreateOptions{}))
	func() {
		buffer, err := client.Get(background, id)
		must(t, err)
		runtime.KeepAlive(buffer)
	}()
	for held := uint64(1); held > 0; {
		runtime.GC()
		time.Sleep(time.Millisecond)
		stats, err := client.Stats()
		must(t, err)
		held = stats.HeldObjects
	}
}

func TestTensorsOutliveTheirStore(t *testing.T) {
	store, client := fresh(t)
	tensor := stored(t, client, CreateOptions{}, []float32{1, 2, 3}, 3)
	must(t, client.Close())
	must(t, store.Close())
	values, err := Values[float32](tensor)
	must(t, err)
	same(t, values, []float32{1, 2, 3})
}
