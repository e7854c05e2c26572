package plasmastore

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// lockSocket is a variable of the environment: the socket of a store, for a process that is to die with a lock.
const lockSocket = "PLASMA_TEST_LOCK_SOCKET"

// lockName is the shared tensor that it locks.
const lockName = "locked"

// TestMain runs the tests, or what another process of theirs is to do.
func TestMain(m *testing.M) {
	if socket := os.Getenv(lockSocket); socket != "" {
		lockAndStay(socket)
	}
	os.Exit(m.Run())
}

// lockAndStay writes half of a tensor under its lock, says so, and stays until it is killed, or its parent is gone.
func lockAndStay(socket string) {
	id, _ := NamedID("", lockName)
	client, err := Connect(socket)
	if err != nil {
		panic(err)
	}
	shared, err := client.OpenShared(background, id)
	if err != nil {
		panic(err)
	}
	tensor, err := shared.Tensor()
	if err != nil {
		panic(err)
	}
	values, err := MutableValues[int64](tensor)
	if err != nil {
		panic(err)
	}
	if err := shared.Lock(background); err != nil {
		panic(err)
	}
	values[0] = 7
	_, _ = os.Stdout.WriteString("locked\n")
	_, _ = os.Stdin.Read(make([]byte, 1))
	os.Exit(1)
}

// soonEnough is a context for what comes at once when nothing is wrong.
func soonEnough(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(background, patience)
	t.Cleanup(cancel)
	return ctx
}

// over is a context that is done.
func over() context.Context {
	ctx, cancel := context.WithCancel(background)
	cancel()
	return ctx
}

// sharedOf is a shared tensor of 2 x 3 zeros that two clients have open, until the test ends.
func sharedOf(t *testing.T, options SharedOptions) (*Client, *SharedTensor, *SharedTensor) {
	t.Helper()
	store, client := fresh(t)
	other, err := Connect(store.Socket())
	must(t, err)
	id, err := NamedID("", lockName)
	must(t, err)
	first, err := client.CreateShared(id, DTypeOf[int64](), []int{2, 3}, options)
	must(t, err)
	second, err := other.OpenShared(soonEnough(t), id)
	must(t, err)
	t.Cleanup(func() {
		must(t, first.Close())
		must(t, second.Close())
		must(t, other.Close())
	})
	return client, first, second
}

// writable is all elements, for writing, until the test ends.
func writable(t *testing.T, shared *SharedTensor) []int64 {
	t.Helper()
	tensor, err := shared.Tensor()
	must(t, err)
	t.Cleanup(func() { must(t, tensor.Close()) })
	values, err := MutableValues[int64](tensor)
	must(t, err)
	return values
}

func TestSharedTensorsAreOneMemory(t *testing.T) {
	client, first, second := sharedOf(t, SharedOptions{Name: lockName})
	same(t, first.Shape(), []int{2, 3})
	same(t, second.DType(), DTypeOf[int64]())
	written, seen := writable(t, first), writable(t, second)
	same(t, seen, make([]int64, 6))
	written[5] = 42
	same(t, seen[5], int64(42))
	id, err := first.ID()
	must(t, err)
	holders, err := client.Holders(id)
	must(t, err)
	same(t, len(holders), 2)
	read, err := Snapshot[int64](soonEnough(t), second)
	must(t, err)
	same(t, read, []int64{0, 0, 0, 0, 0, 42})
	bytes, err := second.SnapshotBytes(soonEnough(t))
	must(t, err)
	same(t, len(bytes) == 48 && bytes[40] == 42, true)
	_, err = Snapshot[int32](soonEnough(t), second)
	fails(t, err, InvalidArgument)
}

func TestSharedTensorsOfAView(t *testing.T) {
	_, client := fresh(t)
	id := random(t)
	shared, err := client.ShareView(id, ViewOf([]float32{1, 2, 3, 4, 5, 6}, 3, 2), SharedOptions{})
	must(t, err)
	defer shared.Close()
	tensor, err := shared.Tensor()
	must(t, err)
	rows, err := tensor.Rows(1, 1)
	must(t, err)
	written, err := MutableValues[float32](rows)
	must(t, err)
	written[1] = 40
	read, err := Snapshot[float32](soonEnough(t), shared)
	must(t, err)
	same(t, read, []float32{1, 2, 3, 40, 5, 6})
	must(t, tensor.Close())
	scalar, err := client.CreateShared(random(t), DTypeOf[bool](), nil, SharedOptions{})
	must(t, err)
	defer scalar.Close()
	empty, err := client.ShareView(random(t), ViewOf([]int64{}, 0, 3), SharedOptions{})
	must(t, err)
	defer empty.Close()
	nothing, err := Snapshot[int64](soonEnough(t), empty)
	must(t, err)
	same(t, len(scalar.Shape())+len(nothing), 0)
}

// Each adds under the lock, in another goroutine and by another connection.
func TestTheLockExcludesOthers(t *testing.T) {
	_, first, second := sharedOf(t, SharedOptions{})
	const rounds = 500
	var group sync.WaitGroup
	for _, shared := range []*SharedTensor{first, second, first} {
		group.Add(1)
		go func(shared *SharedTensor, values []int64) {
			defer group.Done()
			for i := 0; i < rounds; i++ {
				if err := shared.Lock(background); err != nil {
					t.Error(err)
					return
				}
				for j := range values {
					values[j]++
				}
				if err := shared.Unlock(); err != nil {
					t.Error(err)
				}
			}
		}(shared, writable(t, shared))
	}
	group.Wait()
	read, err := Snapshot[int64](soonEnough(t), first)
	must(t, err)
	same(t, read[0] == 3*rounds && read[5] == 3*rounds, true)
	version, err := second.Version()
	must(t, err)
	same(t, version, uint64(2*3*rounds))
}

func TestLocksAreWaitedForWithPatience(t *testing.T) {
	_, first, second := sharedOf(t, SharedOptions{})
	must(t, first.Lock(background))
	fails(t, first.TryLock(), Busy)
	fails(t, second.TryLock(), Timeout)
	fails(t, second.Unlock(), InvalidArgument)
	fails(t, second.Lock(over()), context.Canceled)
	soon, cancel := context.WithTimeout(background, time.Millisecond)
	defer cancel()
	fails(t, second.Lock(soon), context.DeadlineExceeded)
	version, err := second.Version()
	must(t, err)
	same(t, version, uint64(1))
	ended := make(chan error)
	go func() { ended <- second.Lock(background) }()
	must(t, second.Close())
	fails(t, <-ended, InvalidArgument)
	must(t, first.Unlock())
	must(t, first.TryLock())
	must(t, first.Unlock())
}

// Who had the lock is killed; the next one has it, and is told.
func TestTheOwnerOfALockIsKilled(t *testing.T) {
	store, client := fresh(t)
	id, err := NamedID("", lockName)
	must(t, err)
	shared, err := client.CreateShared(id, DTypeOf[int64](), []int{2}, SharedOptions{})
	must(t, err)
	defer shared.Close()
	dying := exec.Command(os.Args[0])
	dying.Env = append(os.Environ(), lockSocket+"="+store.Socket())
	dying.Stderr = os.Stderr
	output, err := dying.StdoutPipe()
	must(t, err)
	input, err := dying.StdinPipe()
	must(t, err)
	defer input.Close()
	must(t, dying.Start())
	said, err := bufio.NewReader(output).ReadString('\n')
	must(t, err)
	same(t, said, "locked\n")
	fails(t, shared.TryLock(), Timeout)
	must(t, dying.Process.Kill())
	_ = dying.Wait()
	fails(t, shared.Lock(soonEnough(t)), OwnerDied)
	values := writable(t, shared)
	same(t, values, []int64{7, 0})
	must(t, shared.Unlock())
	must(t, shared.Lock(soonEnough(t)))
	must(t, shared.Unlock())
}

func TestFrozenTensorsAreOrdinaryObjects(t *testing.T) {
	client, first, second := sharedOf(t, SharedOptions{})
	tensor, err := first.Tensor()
	must(t, err)
	values, err := MutableValues[int64](tensor)
	must(t, err)
	values[5] = 1
	fails(t, first.TryFreeze(), Busy)
	views, err := first.Views()
	must(t, err)
	same(t, views, 1)
	must(t, tensor.Close())
	views, err = first.Views()
	must(t, err)
	same(t, views, 0)
	err = first.TryFreeze()
	fails(t, err, Busy)
	same(t, strings.Contains(err.Error(), "others can write it"), true)
	soon, cancel := context.WithTimeout(background, time.Millisecond)
	defer cancel()
	err = first.Freeze(soon)
	fails(t, err, Busy)
	fails(t, err, context.DeadlineExceeded)
	frozen := make(chan error)
	go func() { frozen <- first.Freeze(soonEnough(t)) }()
	must(t, second.Close())
	must(t, <-frozen)
	id, err := first.ID()
	must(t, err)
	read, err := Values[int64](got(t, client, id))
	must(t, err)
	same(t, read, []int64{0, 0, 0, 0, 0, 1})
	_, err = first.Tensor()
	fails(t, err, ObjectAlreadySealed)
	fails(t, first.TryLock(), ObjectAlreadySealed)
	_, err = client.OpenShared(soonEnough(t), id)
	fails(t, err, ObjectAlreadySealed)
}

func TestSharedTensorsLiveAsLongAsSomebodyHasThem(t *testing.T) {
	_, client := fresh(t)
	for _, keep := range []bool{false, true} {
		id := random(t)
		shared, err := client.CreateShared(id, DTypeOf[int64](), []int{2}, SharedOptions{Keep: keep})
		must(t, err)
		must(t, shared.Close())
		must(t, shared.Close())
		fails(t, shared.TryLock(), InvalidArgument)
		holders, err := client.Holders(id)
		if !keep {
			fails(t, err, ObjectNotFound)
			continue
		}
		must(t, err)
		same(t, len(holders), 0)
		again, err := client.OpenShared(soonEnough(t), id)
		must(t, err)
		must(t, again.Close())
		_, err = client.Delete(id)
		must(t, err)
	}
}

func TestSharedTensorsThatCannotBe(t *testing.T) {
	_, client := fresh(t)
	id, bytes := random(t), DTypeOf[uint8]()
	_, err := client.CreateShared(id, bytes, []int{-1}, SharedOptions{})
	fails(t, err, InvalidArgument)
	_, err = client.CreateShared(id, bytes, []int{1 << 30}, SharedOptions{})
	fails(t, err, StoreFull)
	_, err = client.CreateShared(id, bytes, []int{1}, SharedOptions{Name: "another"})
	fails(t, err, InvalidArgument)
	_, err = client.CreateShared(id, bytes, []int{1}, SharedOptions{Name: "a\x00b"})
	fails(t, err, InvalidArgument)
	_, err = client.ShareView(id, ViewOf([]uint8{1}, 2), SharedOptions{})
	fails(t, err, InvalidArgument)
	four := TensorView{DType: DType{Uint, 4, 1}, Data: []byte{1, 2}, Shape: []int{2}, Padded: true}
	_, err = client.ShareView(id, four, SharedOptions{})
	fails(t, err, InvalidArgument)
	_, err = client.OpenShared(over(), id)
	fails(t, err, context.Canceled)
	_, err = client.Holders(id)
	fails(t, err, ObjectNotFound)
}
