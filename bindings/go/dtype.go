package plasmastore

import (
	"fmt"
	"math"
	"math/bits"
)

// DType is the type of one element, as DLPack numbers it: float32 is {Float, 32, 1}.
type DType struct {
	Code  TypeCode
	Bits  uint8
	Lanes uint16
}

// TypeCode is a code of DLPack's, as of 1.3.
type TypeCode uint8

// The codes.
const (
	Int TypeCode = iota
	Uint
	Float
	OpaqueHandle
	Bfloat
	Complex
	Bool
	Float8E3M4
	Float8E4M3
	Float8E4M3B11FNUZ
	Float8E4M3FN
	Float8E4M3FNUZ
	Float8E5M2
	Float8E5M2FNUZ
	Float8E8M0FNU
	Float6E2M3FN
	Float6E3M2FN
	Float4E2M1FN
	Bcomplex
)

var typeNames = [...]string{"int", "uint", "float", "opaque", "bfloat", "complex", "bool", "float8_e3m4", "float8_e4m3",
	"float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
	"float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn", "bcomplex"}

// String is a name such as "float32", "bfloat16", "bool"; of a code from the future its numbers.
func (t DType) String() string {
	if int(t.Code) >= len(typeNames) {
		return fmt.Sprintf("DLPack type %d of %d bits", t.Code, t.Bits)
	}
	name := typeNames[t.Code]
	if t.Bits != t.Code.bitsInName() {
		name += fmt.Sprint(t.Bits)
	}
	switch {
	case t.Lanes == 1:
		return name
	case t.Code.bitsInName() != 0:
		name += "_"
	}
	return name + fmt.Sprintf("x%d", t.Lanes)
}

// bitsInName is the bits that a name stands for by itself; 0 where they follow it.
func (c TypeCode) bitsInName() uint8 {
	switch {
	case c == Float4E2M1FN:
		return 4
	case c == Float6E2M3FN || c == Float6E3M2FN:
		return 6
	case c == Bool || c >= Float8E3M4 && c <= Float8E8M0FNU:
		return 8
	}
	return 0
}

// elementBytes is the whole bytes of one element; 0 where several share a byte.
func (t DType) elementBytes() int {
	bits := int(t.Bits) * int(t.Lanes)
	if bits%8 != 0 {
		return 0
	}
	return bits / 8
}

// bytesOf is the bytes that so many elements take: those below 8 bits lie bit behind bit. False where they are too
// many to be counted.
func (t DType) bytesOf(count int) (int, bool) {
	width := uint(t.Bits) * uint(t.Lanes)
	high, whole := bits.Mul(uint(count)/8, width)
	size := whole + (uint(count)%8*width+7)/8
	return int(size), high == 0 && size >= whole && size <= math.MaxInt
}

// Numbers that Go has no types for, as their bits.
type (
	Float16       uint16
	Bfloat16      uint16
	Complex32     uint32
	Bcomplex32    uint32
	F8E3M4        uint8
	F8E4M3        uint8
	F8E4M3B11FNUZ uint8
	F8E4M3FN      uint8
	F8E4M3FNUZ    uint8
	F8E5M2        uint8
	F8E5M2FNUZ    uint8
	F8E8M0FNU     uint8
)

// Element is what a typed slice of a tensor can be of. Of all others there are Bytes.
type Element interface {
	int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | float32 | float64 | complex64 | complex128 | bool |
		Float16 | Bfloat16 | Complex32 | Bcomplex32 | F8E3M4 | F8E4M3 |
		F8E4M3B11FNUZ | F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F8E8M0FNU
}

var elementTypes = map[any]DType{
	int8(0): {Int, 8, 1}, int16(0): {Int, 16, 1}, int32(0): {Int, 32, 1}, int64(0): {Int, 64, 1},
	uint8(0): {Uint, 8, 1}, uint16(0): {Uint, 16, 1}, uint32(0): {Uint, 32, 1}, uint64(0): {Uint, 64, 1},
	float32(0): {Float, 32, 1}, float64(0): {Float, 64, 1}, complex64(0): {Complex, 64, 1},
	complex128(0): {Complex, 128, 1}, false: {Bool, 8, 1}, Float16(0): {Float, 16, 1}, Bfloat16(0): {Bfloat, 16, 1},
	Complex32(0): {Complex, 32, 1}, Bcomplex32(0): {Bcomplex, 32, 1},
	F8E3M4(0): {Float8E3M4, 8, 1}, F8E4M3(0): {Float8E4M3, 8, 1}, F8E4M3B11FNUZ(0): {Float8E4M3B11FNUZ, 8, 1},
	F8E4M3FN(0): {Float8E4M3FN, 8, 1}, F8E4M3FNUZ(0): {Float8E4M3FNUZ, 8, 1}, F8E5M2(0): {Float8E5M2, 8, 1},
	F8E5M2FNUZ(0): {Float8E5M2FNUZ, 8, 1}, F8E8M0FNU(0): {Float8E8M0FNU, 8, 1},
}

// DTypeOf is the DType of a Go type.
func DTypeOf[T Element]() DType {
	var zero T
	return elementTypes[any(zero)]
}
