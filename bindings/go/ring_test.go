package plasmastore

import (
	"context"
	"testing"
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
	must(t, slot.PublishAs(DTypeOf[float32](), []int{2, 3}))
	message, err := consumer.Take(background)
	must(t, err)
	same(t, message.Shape(), []int{2, 3})
	same(t, message.DType(), DTypeOf[float32]())
	same(t, len(message.Bytes()), 24)
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

func TestRingsThatCannotBe(t *testing.T) {
	_, client := fresh(t)
	for _, options := range []RingOptions{{}, {Slots: 2}, {Slots: -1}, {Slots: 65536, SlotBytes: 8},
		{Slots: 2, SlotBytes: 8, Name: "another"}, {Slots: 2, SlotBytes: 8, Broadcast: true, HandOutAgain: true}} {
		_, err := client.CreateRing(random(t), options)
		fails(t, err, InvalidArgument)
	}
}
