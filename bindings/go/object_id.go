package plasmastore

/*
#include <plasma_store.h>
#include <stdlib.h>
*/
import "C"

import (
	"encoding/hex"
	"strings"
	"unsafe"
)

// ObjectID is the name of an object: 20 opaque bytes. It can be compared and be the key of a map.
type ObjectID [20]byte

// RandomID makes an id of 160 random bits.
func RandomID() (ObjectID, error) {
	var id ObjectID
	err := call(func() C.plasma_status { return C.plasma_object_id_random(id.c()) })
	return id, err
}

// ParseID reads an id from 40 hex digits.
func ParseID(digits string) (ObjectID, error) {
	var id ObjectID
	if len(digits) != 2*len(id) {
		return id, invalid("an id has 40 hex digits, not %d", len(digits))
	}
	if _, err := hex.Decode(id[:], []byte(digits)); err != nil {
		return id, invalid("%q is no id: %v", digits, err)
	}
	return id, nil
}

// NamedID makes the id of a name in a name space, the same in every language. Neither may have a zero byte.
func NamedID(nameSpace, name string) (ObjectID, error) {
	var id ObjectID
	space, err := cString(nameSpace, "name space")
	if err != nil {
		return id, err
	}
	defer C.free(unsafe.Pointer(space))
	text, err := cString(name, "name")
	if err != nil {
		return id, err
	}
	defer C.free(unsafe.Pointer(text))
	err = call(func() C.plasma_status { return C.plasma_object_id_from_name(space, text, id.c()) })
	return id, err
}

// String is the id in 40 hex digits.
func (id ObjectID) String() string { return hex.EncodeToString(id[:]) }

func (id *ObjectID) c() *C.plasma_object_id { return (*C.plasma_object_id)(unsafe.Pointer(id)) }

// firstID is what C is given for a slice.
func firstID(ids []ObjectID) *C.plasma_object_id {
	if len(ids) == 0 {
		return nil
	}
	return ids[0].c()
}

// firstByte is what C is given for bytes.
func firstByte(bytes []byte) *C.uint8_t {
	if len(bytes) == 0 {
		return nil
	}
	return (*C.uint8_t)(unsafe.Pointer(&bytes[0]))
}

// cString copies a text for C, which would read no further than to a zero byte. It is to be freed.
func cString(text, what string) (*C.char, error) {
	if zero := strings.IndexByte(text, 0); zero >= 0 {
		return nil, invalid("the %s has a zero byte at %d", what, zero)
	}
	return C.CString(text), nil
}

// cStrings puts texts where C may find them until they are freed.
func cStrings(texts []string, what string) (**C.char, func(), error) {
	size := C.size_t(unsafe.Sizeof((*C.char)(nil)))
	first := (**C.char)(C.calloc(C.size_t(len(texts)+1), size))
	all := unsafe.Slice(first, len(texts))
	free := func() {
		for _, text := range all {
			C.free(unsafe.Pointer(text))
		}
		C.free(unsafe.Pointer(first))
	}
	for i, text := range texts {
		made, err := cString(text, what)
		if err != nil {
			free()
			return nil, nil, err
		}
		all[i] = made
	}
	return first, free, nil
}
