// Package plasmastore puts tensors and other objects into shared memory, where any number of processes read them where
// they lie, without a copy. It is the Go face of the C library libplasma_store; cgo finds that by pkg-config.
//
//	producer                                              consumer
//	client, err := plasmastore.Connect("")                client, err := plasmastore.Connect("")
//	id := plasmastore.NamedID("", "matrix")               tensor, err := client.GetTensor(ctx, id)
//	err = plasmastore.PutTensor(client, id,               defer tensor.Close()
//	    []float32{1, 2, 3, 4, 5, 6}, 2, 3)                numbers, err := plasmastore.Values[float32](tensor)
//
// # Errors
//
// A call that fails returns an *Error, which has a Status and a message with the number or name that was wrong;
// errors.Is(err, plasmastore.ObjectExists) asks for a status. What was ended by its context is also context.Canceled or
// context.DeadlineExceeded.
//
// # Closing
//
// Close gives back what a value holds, may be called twice, and makes other calls fail with InvalidArgument. What is
// forgotten, but for a Store, is given back by the garbage collector some time. It cannot see slices of shared memory:
// those that Data, Values and the like return are good until Close, or until nothing refers to the Buffer or Tensor
// any more. A deferred Close is enough to keep it.
//
// # Names and bundles
//
// NamedID makes the id of a name, the same in every language; what is created with CreateOptions.Name keeps the name as
// well, and NameOf tells it. PutTensors stores many named tensors as one object, which is a safetensors file, and
// GetTensors gets them all at once.
//
// # Memory that several write, and rings
//
// CreateShared and OpenShared give a SharedTensor: one array that all who have it open write, with a lock that outlives
// who dies with it, until Freeze makes it an ordinary object. CreateRing and OpenRing give a Ring of buffers that go
// round between those who fill them and those who read them in place.
//
// # Waiting
//
// Calls that wait take a context, and wait for as long as it lets them; a wait for a lock, a slot or a message ends
// at most a tenth of a second later. A call that waits keeps no other goroutine waiting. Closing a Client ends what
// waits on it.
//
// # Memory
//
// Sealed objects are mapped read-only: writing to such a slice is a fault that ends the program.
package plasmastore
