package plasmastore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"plasmastore"
	"time"
)

// Many named tensors in one object.
func ExampleClient_PutTensors() {
	store, err := plasmastore.StartStore(plasmastore.StoreOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	client, err := plasmastore.Connect(store.Socket())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	id, _ := plasmastore.NamedID("", "model/1")
	err = client.PutTensors(id, []plasmastore.NamedView{
		{Name: "weight", View: plasmastore.ViewOf([]float64{1, 1, 1, 1, 1, 1}, 2, 3)},
		{Name: "bias", View: plasmastore.ViewOf([]float64{0, 0}, 2)},
	}, map[string]string{"step": "5"}, plasmastore.CreateOptions{Name: "model/1"})
	if err != nil {
		log.Fatal(err)
	}
	model, err := client.GetTensors(context.Background(), id) // one get for all; each lies in shared memory
	if err != nil {
		log.Fatal(err)
	}
	defer model.Close()
	for _, name := range model.Names() {
		tensor, _ := model.Tensor(name)
		fmt.Println(name, tensor.Len())
	}
	// Output:
	// weight 6
	// bias 2
}

// One array that several processes write. Here both ends are in one process.
func ExampleSharedTensor() {
	store, err := plasmastore.StartStore(plasmastore.StoreOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	client, err := plasmastore.Connect(store.Socket())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	id, _ := plasmastore.NamedID("", "totals")
	named := plasmastore.SharedOptions{Name: "totals"}
	shared, err := client.CreateShared(id, plasmastore.DTypeOf[float64](), []int{3}, named)
	if err != nil {
		log.Fatal(err)
	}
	defer shared.Close()

	// In another process: client.OpenShared(ctx, id), and then the same.
	tensor, _ := shared.Tensor()
	totals, _ := plasmastore.MutableValues[float64](tensor)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err = shared.Lock(ctx)
	if errors.Is(err, plasmastore.OwnerDied) {
		fmt.Println("somebody died here; the totals are to be put in order")
	} else if err != nil {
		log.Fatal(err)
	}
	totals[0] += 1.5
	shared.Unlock()

	seen, _ := plasmastore.Snapshot[float64](ctx, shared)
	fmt.Println(seen)
	tensor.Close()
	fmt.Println(shared.Freeze(ctx)) // read-only for everybody from now on
	// Output:
	// [1.5 0 0]
	// <nil>
}

// Buffers that go round, from who fills them to who reads them in place.
func ExampleRing() {
	store, err := plasmastore.StartStore(plasmastore.StoreOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	client, err := plasmastore.Connect(store.Socket())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	id, _ := plasmastore.RandomID()
	ctx := context.Background()
	images := plasmastore.RingOptions{Slots: 2, DType: plasmastore.DTypeOf[float32](), Shape: []int{4}}
	ring, err := client.CreateRing(id, images)
	if err != nil {
		log.Fatal(err)
	}
	defer ring.Close()
	go func() { // in another process: client.OpenRing(ctx, id)
		defer ring.Finish()
		for i := 0; i < 3; i++ {
			slot, err := ring.Acquire(ctx)
			if err != nil {
				return
			}
			pixels, _ := plasmastore.SlotValues[float32](slot)
			for j := range pixels {
				pixels[j] = float32(i)
			}
			slot.Publish()
		}
	}()
	for {
		message, err := ring.Take(ctx)
		if errors.Is(err, plasmastore.Closed) {
			break
		} else if err != nil {
			log.Fatal(err)
		}
		pixels, _ := plasmastore.MessageValues[float32](message)
		fmt.Println(pixels)
		message.Release()
	}
	// Output:
	// [0 0 0 0]
	// [1 1 1 1]
	// [2 2 2 2]
}
