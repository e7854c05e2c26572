package plasmastore

/*
#cgo pkg-config: plasma_store
#include <plasma_store.h>
*/
import "C"

import (
	"fmt"
	"runtime"
)

// Status is why a call failed. It is an error itself, to be asked for with errors.Is.
type Status int32

// The statuses; a newer library may have others.
const (
	ObjectExists        Status = C.PLASMA_OBJECT_EXISTS
	ObjectNotFound      Status = C.PLASMA_OBJECT_NOT_FOUND
	StoreFull           Status = C.PLASMA_STORE_FULL
	ObjectNotSealed     Status = C.PLASMA_OBJECT_NOT_SEALED
	ObjectInUse         Status = C.PLASMA_OBJECT_IN_USE
	ObjectAlreadySealed Status = C.PLASMA_OBJECT_ALREADY_SEALED
	Timeout             Status = C.PLASMA_TIMEOUT
	Interrupted         Status = C.PLASMA_INTERRUPTED
	Busy                Status = C.PLASMA_BUSY
	InvalidArgument     Status = C.PLASMA_INVALID_ARGUMENT
	Disconnected        Status = C.PLASMA_DISCONNECTED
	ConnectFailed       Status = C.PLASMA_CONNECT_FAILED
	UnsupportedPeer     Status = C.PLASMA_UNSUPPORTED_PEER
	ProtocolError       Status = C.PLASMA_PROTOCOL_ERROR
	Unsupported         Status = C.PLASMA_UNSUPPORTED
	Corrupt             Status = C.PLASMA_CORRUPT
	Forked              Status = C.PLASMA_FORKED
	OutOfMemory         Status = C.PLASMA_OUT_OF_MEMORY
	IOError             Status = C.PLASMA_IO_ERROR
	AddressInUse        Status = C.PLASMA_ADDRESS_IN_USE
	Panic               Status = C.PLASMA_PANIC
	OwnerDied           Status = C.PLASMA_OWNER_DIED
	Closed              Status = C.PLASMA_CLOSED
	Aborted             Status = C.PLASMA_ABORTED
)

// Error is a short text.
func (s Status) Error() string { return C.GoString(C.plasma_status_string(C.plasma_status(s))) }

// Error is a call that failed.
type Error struct {
	Status  Status
	Message string
	cause   error // that of a context, where one ended the call
}

func (e *Error) Error() string { return e.Message }

// Is tells whether target is this error's status.
func (e *Error) Is(target error) bool {
	status, ok := target.(Status)
	return ok && status == e.Status
}

// Unwrap is the error of the context that ended the call.
func (e *Error) Unwrap() error { return e.cause }

// call makes a C call, and reads what it left for this thread where it fails.
func call(function func() C.plasma_status) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	status := function()
	if status == C.PLASMA_OK {
		return nil
	}
	return &Error{Status: Status(status), Message: C.GoString(C.plasma_last_error_message())}
}

func invalid(format string, values ...any) error {
	return &Error{Status: InvalidArgument, Message: fmt.Sprintf(format, values...)}
}

// closed is the error of a call on something that was closed.
func closed(what string) error { return invalid("the %s is closed", what) }

// Version is that of the library that runs, such as "0.1.0".
func Version() string { return C.GoString(C.plasma_version()) }
