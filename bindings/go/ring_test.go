package plasmastore

import (
	"context"
	"syscall"
	"testing"
	"time"
)

// ringOf is a ring that two clients take part in, until the test ends.
func ringOf(t *testing.T, options RingOptions) (*Ring, *Ring) {
	t.Helper()
	store, client := fresh(t)
	other, err := Connect(store.Socket())
	must(t, err)
	id := random(t)
	first, err := client.CreateRing(id, options)
	must(t, err)
	second, err := other.OpenRing(background, id)
	must(t, err)
	t.Cleanup(func() {
		must(t, first.Close())
		must(t, second.Close())
		must(t, other.Close())
	})
	return first, second
}

func publish(t *testing.T, ring *Ring, value byte) {
	t.Helper()
	slot, err := ring.Acquire(background)
	must(t, err)
	for i := range slot.Bytes() {
		slot.Bytes()[i] = value
	}
	must(t, slot.Publish())
	fails(t, slot.Publish(), InvalidArgument)
	same(t, slot.Bytes() == nil, true)
}

// Until the end, which Finish makes.
func TestRingsPassMessages(t *testing.T) {
	producer, consumer := ringOf(t, RingOptions{Slots: 3, DType: DTypeOf[uint8](), Shape: []int{2, 5}})
	done := make(chan error)
	go func() {
		for i := 0; i < 100; i++ {
			message, err := consumer.Take(background)
			if err != nil || message.Bytes()[9] != byte(i) || len(message.Bytes()) != 10 {
				done <- invalid("message %d: %v", i, err)
				return
			}
			if err := message.Release(); err != nil {
				done <- err
				return
			}
		}
		_, err := consumer.Take(background)
		done <- err
	}()
	for i := 0; i < 100; i++ {
		publish(t, producer, byte(i))
	}
	must(t, producer.Finish())
	fails(t, <-done, Closed)
	free, published, err := consumer.Counts()
	must(t, err)
	same(t, []int{free, published}, []int{3, 0})
}

func TestRingsOfMessagesOfTheirOwn(t *testing.T) {
	producer, consumer := ringOf(t, RingOptions{Slots: 2, SlotBytes: 100})
	slot, err := producer.Acquire(background)
	must(t, err)
	fails(t, slot.Publish(), InvalidArgument)
	fails(t, slot.PublishAs(DTypeOf[float64](), []int{13}), InvalidArgument)
	values, err := SlotValues[float32](slot)
	must(t, err)
	same(t, len(values), 25)
	values[5] = 0.5
	must(t, slot.PublishAs(DTypeOf[float32](), []int{2, 3}))
	message, err := consumer.Take(background)
	must(t, err)
	same(t, message.Shape(), []int{2, 3})
	same(t, message.DType(), DTypeOf[float32]())
	read, err := MessageValues[float32](message)
	must(t, err)
	same(t, read, []float32{0, 0, 0, 0, 0, 0.5})
	same(t, len(message.Bytes()), 24)
	_, err = MessageValues[int32](message)
	fails(t, err, InvalidArgument)
	must(t, message.Release())
	fails(t, message.Release(), InvalidArgument)
	slot, err = producer.Acquire(background)
	must(t, err)
	must(t, slot.Abandon())
	must(t, producer.Abort())
	_, err = consumer.Take(background)
	fails(t, err, Aborted)
}

func TestRingsDropAndEndWaits(t *testing.T) {
	producer, consumer := ringOf(t, RingOptions{Slots: 2, DType: DTypeOf[uint8](), Shape: []int{1}, DropOldest: true})
	for i := 0; i < 10; i++ {
		publish(t, producer, byte(i))
	}
	for i := 8; i < 10; i++ {
		message, err := consumer.Take(background)
		must(t, err)
		same(t, message.Bytes(), []byte{byte(i)})
		must(t, message.Release())
	}
	ctx, cancel := context.WithCancel(background)
	cancel()
	_, err := consumer.Take(ctx)
	fails(t, err, context.Canceled)
	waiting, cancel := context.WithCancel(background)
	done := make(chan error)
	go func() {
		_, err := consumer.Take(waiting)
		done <- err
	}()
	cancel()
	fails(t, <-done, context.Canceled)
	must(t, consumer.Close())
	_, _, err = consumer.Counts()
	fails(t, err, InvalidArgument)
}

// What was chosen is told to whoever opens the ring, and followed there.
func TestRingsAreAsTheyWereMade(t *testing.T) {
	made := RingOptions{Slots: 2, SlotBytes: 64, DType: DTypeOf[int32](), Shape: []int{3}, DropOldest: true,
		HandOutAgain: true, Guard: true, AcquireWait: 1500 * time.Millisecond}
	first, second := ringOf(t, made)
	told, err := second.Options()
	must(t, err)
	same(t, told, made)
	one, err := first.ID()
	must(t, err)
	other, err := second.ID()
	must(t, err)
	same(t, one, other)
	for _, wait := range []time.Duration{-1, time.Millisecond} {
		_, opened := ringOf(t, RingOptions{Slots: 1, SlotBytes: 8, Broadcast: true, AcquireWait: wait})
		told, err := opened.Options()
		must(t, err)
		same(t, told, RingOptions{Slots: 1, SlotBytes: 8, Broadcast: true, AcquireWait: wait})
		_, err = opened.Acquire(background)
		must(t, err)
		_, err = opened.Acquire(background)
		fails(t, err, Timeout)
	}
}

func TestRingsThatAllRead(t *testing.T) {
	first, second := ringOf(t, RingOptions{Slots: 2, DType: DTypeOf[uint8](), Shape: []int{1}, Broadcast: true})
	for _, ring := range []*Ring{first, second} {
		_, err := ring.TryTake()
		fails(t, err, Timeout)
	}
	publish(t, first, 7)
	for _, ring := range []*Ring{first, second} {
		message, err := ring.TryTake()
		must(t, err)
		same(t, message.Bytes(), []byte{7})
		must(t, message.Release())
		same(t, message.Bytes() == nil, true)
	}
}

func TestFullRings(t *testing.T) {
	producer, consumer := ringOf(t, RingOptions{Slots: 2, DType: DTypeOf[uint8](), Shape: []int{1}})
	_, err := producer.TryAcquire()
	must(t, err)
	slot, err := producer.TryAcquire()
	must(t, err)
	_, err = producer.TryAcquire()
	fails(t, err, Timeout)
	_, err = producer.Acquire(over())
	fails(t, err, context.Canceled)
	_, err = SlotValues[int8](slot)
	fails(t, err, InvalidArgument)
	values, err := SlotValues[uint8](slot)
	must(t, err)
	values[0] = 3
	must(t, slot.Publish())
	message, err := consumer.TryTake()
	must(t, err)
	read, err := MessageValues[uint8](message)
	must(t, err)
	same(t, read, []uint8{3})
	ended := make(chan error)
	go func() {
		_, err := consumer.Take(background)
		ended <- err
	}()
	must(t, consumer.Close())
	fails(t, <-ended, InvalidArgument)
	fails(t, message.Release(), InvalidArgument)
}

// Copies, one and many at a time, more than there are slots.
func TestRingsOfCopies(t *testing.T) {
	producer, consumer := ringOf(t, RingOptions{Slots: 4, DType: DTypeOf[int32](), Shape: []int{2, 3}})
	must(t, producer.Put(background, ViewOf([]int32{1, 2, 3, 4, 5, 6}, 2, 3)))
	columns := TensorView{DType: DTypeOf[int32](), Data: []byte{4: 8, 23: 0}, Shape: []int{2, 3}, Strides: []int{1, 2}}
	must(t, producer.Put(background, columns))
	fails(t, producer.Put(background, ViewOf([]int32{1, 2, 3}, 3)), InvalidArgument)
	into := make([]int32, 12)
	taken, err := TakeMany(background, consumer, into)
	must(t, err)
	same(t, taken, 2)
	same(t, into, []int32{1, 2, 3, 4, 5, 6, 0, 0, 0, 8, 0, 0})
	const messages = 50
	all := make([]int32, 6*messages)
	for i := range all {
		all[i] = int32(i)
	}
	done := make(chan error)
	go func() {
		put, err := PutMany(background, producer, all)
		if err == nil && put != messages {
			err = invalid("%d put", put)
		}
		done <- err
	}()
	read := make([]int32, 0, len(all))
	for len(read) < len(all) {
		taken, err := TakeMany(background, consumer, into)
		must(t, err)
		read = append(read, into[:6*taken]...)
	}
	must(t, <-done)
	same(t, read, all)
	put, err := PutMany(over(), producer, all)
	fails(t, err, context.Canceled)
	same(t, put, 4)
	must(t, producer.Finish())
	fails(t, producer.Put(background, ViewOf([]int32{1, 2, 3, 4, 5, 6}, 2, 3)), Closed)
}

func TestCopiesThatDoNotFit(t *testing.T) {
	ring, _ := ringOf(t, RingOptions{Slots: 2, DType: DTypeOf[int32](), Shape: []int{3}})
	_, err := PutMany(background, ring, make([]int32, 4))
	fails(t, err, InvalidArgument)
	_, err = PutMany(background, ring, make([]uint32, 3))
	fails(t, err, InvalidArgument)
	none, err := TakeMany(background, ring, []int32{})
	must(t, err)
	same(t, none, 0)
	fails(t, ring.Put(background, ViewOf([]int32{1}, 3)), InvalidArgument)
	_, own := ringOf(t, RingOptions{Slots: 2, SlotBytes: 100})
	same(t, own.Shape() == nil && own.DType() == DType{}, true)
	_, err = TakeMany(background, own, make([]int32, 3))
	fails(t, err, InvalidArgument)
	must(t, own.Put(background, ViewOf([]int32{1, 2}, 2)))
	message, err := own.TryTake()
	must(t, err)
	same(t, message.Shape(), []int{2})
}

// isReadable waits for that; a signal may come in between.
func isReadable(descriptor int) error {
	for {
		var set syscall.FdSet
		set.Bits[descriptor/64] |= 1 << (descriptor % 64)
		count, err := syscall.Select(descriptor+1, &set, nil, nil, &syscall.Timeval{Sec: 60})
		if err == nil && count == 0 {
			return Timeout
		}
		if err != syscall.EINTR {
			return err
		}
	}
}

func TestRingsThatArePolled(t *testing.T) {
	producer, consumer := ringOf(t, RingOptions{Slots: 2, DType: DTypeOf[uint8](), Shape: []int{1}})
	descriptor, err := consumer.FD()
	must(t, err)
	_, err = consumer.TryTake()
	fails(t, err, Timeout)
	publish(t, producer, 1)
	same(t, isReadable(descriptor), nil)
	_, err = consumer.TryTake()
	must(t, err)
}

func TestRingsThatCannotBe(t *testing.T) {
	_, client := fresh(t)
	for _, options := range []RingOptions{{}, {Slots: 2}, {Slots: -1}, {Slots: 65536, SlotBytes: 8},
		{Slots: 2, SlotBytes: 8, Name: "another"}, {Slots: 2, SlotBytes: 8, Name: "a\x00b"},
		{Slots: 2, SlotBytes: 8, Broadcast: true, HandOutAgain: true}} {
		_, err := client.CreateRing(random(t), options)
		fails(t, err, InvalidArgument)
	}
}
