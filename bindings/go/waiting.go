package plasmastore

/*
#include <plasma_store.h>
*/
import "C"

import (
	"context"
	"errors"
	"runtime"
	"syscall"
)

// ends are channels that end a wait when they are closed; nil never does.
type ends [2]<-chan struct{}

// wait makes a C call that waits, and ends it when the context is done or one of the channels is closed. Others that
// wait go on: this thread alone has a descriptor that wakes it.
func wait(ctx context.Context, closing ends, function func() C.plasma_status) error {
	if ctx.Err() != nil {
		return ended(ctx)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var pipe [2]int
	if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC); err != nil {
		return &Error{Status: IOError, Message: "pipe2: " + err.Error(), cause: err}
	}
	defer syscall.Close(pipe[0])
	defer syscall.Close(pipe[1])
	if err := call(func() C.plasma_status { return C.plasma_set_wake_fd(C.int(pipe[0])) }); err != nil {
		return err
	}
	defer C.plasma_set_wake_fd(-1)
	stop := knock(ctx, closing, pipe[1])
	err := call(function)
	stop()
	if errors.Is(err, Interrupted) && ctx.Err() != nil {
		return ended(ctx)
	}
	return err
}

// knock writes to a pipe when the context is done or one of the channels is closed. What it returns ends that, and
// waits for the end.
func knock(ctx context.Context, closing ends, pipe int) func() {
	finished, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		select {
		case <-ctx.Done():
		case <-closing[0]:
		case <-closing[1]:
		case <-finished:
			return
		}
		_, _ = syscall.Write(pipe, []byte{0}) // the pipe is open and empty
	}()
	return func() {
		close(finished)
		<-gone
	}
}

// ended is the error of a call that its context ended.
func ended(ctx context.Context) error {
	status := Interrupted
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		status = Timeout
	}
	return &Error{Status: status, Message: ctx.Err().Error(), cause: ctx.Err()}
}
