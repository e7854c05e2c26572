// What Go writes and reads in the interop matrix: commands and answers as in exchange.c.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"plasmastore"
)

// words is what is left of a command.
type words []string

func (w *words) next() string {
	if len(*w) == 0 {
		return ""
	}
	first := (*w)[0]
	*w = (*w)[1:]
	return first
}

func (w *words) number() int {
	number, err := strconv.Atoi(w.next())
	if err != nil {
		log.Fatal(err)
	}
	return number
}

func (w *words) numbers(count int) []int {
	found := make([]int, count)
	for i := range found {
		found[i] = w.number()
	}
	return found
}

func (w *words) id() plasmastore.ObjectID {
	id, err := plasmastore.ParseID(w.next())
	if err != nil {
		log.Fatal(err)
	}
	return id
}

func write(client *plasmastore.Client, given *words) (string, error) {
	id, view := given.id(), given.view()
	return "ok", client.PutView(id, view, plasmastore.CreateOptions{})
}

func writeBundle(client *plasmastore.Client, given *words) (string, error) {
	id, view := given.id(), given.view()
	named := []plasmastore.NamedView{{Name: "x", View: view}}
	return "ok", client.PutTensors(id, named, nil, plasmastore.CreateOptions{})
}

func (given *words) view() plasmastore.TensorView {
	element := given.numbers(3)
	view := plasmastore.TensorView{Padded: given.number() != 0}
	code, bits, lanes := plasmastore.TypeCode(element[0]), uint8(element[1]), uint16(element[2])
	view.DType = plasmastore.DType{Code: code, Bits: bits, Lanes: lanes}
	ndim := given.number()
	view.Shape, view.Strides = given.numbers(ndim), given.numbers(ndim)
	data, err := hex.DecodeString(given.next())
	if err != nil {
		log.Fatal(err)
	}
	view.Data = data
	return view
}

// strides is in elements, of which several may share a byte.
func strides(tensor *plasmastore.Tensor) []int {
	shape, found := tensor.Shape(), tensor.ByteStrides()
	bits := int(tensor.DType().Bits) * int(tensor.DType().Lanes)
	step := 1
	for i := len(found) - 1; i >= 0; i-- {
		if bits%8 == 0 {
			found[i] /= bits / 8
			continue
		}
		found[i] = step
		step *= shape[i]
	}
	return found
}

// inOrder is the elements in the order in which they lie.
func inOrder(tensor *plasmastore.Tensor) ([]byte, error) {
	if tensor.IsRowMajor() {
		return tensor.Bytes()
	}
	turned, err := tensor.View(reversed(tensor.Shape()), reversed(strides(tensor)), 0)
	if err != nil {
		return nil, err
	}
	return turned.Bytes()
}

func reversed(numbers []int) []int {
	turned := []int{}
	for i := len(numbers) - 1; i >= 0; i-- {
		turned = append(turned, numbers[i])
	}
	return turned
}

// within tells whether bytes lie in an object.
func within(bytes, object []byte) int {
	first, begin := uintptr(unsafe.Pointer(&bytes[0])), uintptr(unsafe.Pointer(&object[0]))
	if begin <= first && first+uintptr(len(bytes)) <= begin+uintptr(len(object)) {
		return 1
	}
	return 0
}

func read(client *plasmastore.Client, given *words) (string, error) {
	tensor, err := client.GetTensor(context.Background(), given.id())
	if err != nil {
		return "", err
	}
	defer tensor.Close()
	return told(tensor, tensor.Buffer().Data())
}

func readBundle(client *plasmastore.Client, given *words) (string, error) {
	object, err := client.Get(context.Background(), given.id())
	if err != nil {
		return "", err
	}
	defer object.Close()
	bundle, err := object.Bundle()
	if err != nil {
		return "", err
	}
	defer bundle.Close()
	tensor, err := bundle.Tensor("x")
	if err != nil {
		return "", err
	}
	return told(tensor, object.Data())
}

// told is a tensor as an answer has it, and whether it lies in its object.
func told(tensor *plasmastore.Tensor, object []byte) (string, error) {
	bytes, err := inOrder(tensor)
	if err != nil {
		return "", err
	}
	same := 1
	if len(bytes) > 0 {
		same = within(bytes, object)
	}
	dtype, shape := tensor.DType(), tensor.Shape()
	answer := fmt.Sprint(uint8(dtype.Code), " ", dtype.Bits, " ", dtype.Lanes, " ", same, " ", len(shape))
	for _, number := range append(shape, strides(tensor)...) {
		answer += fmt.Sprint(" ", number)
	}
	return answer + " " + hex.EncodeToString(bytes), nil
}

func look(client *plasmastore.Client, given *words) (string, error) {
	tensor, err := client.GetTensor(context.Background(), given.id())
	if err != nil {
		return "", err
	}
	defer tensor.Close()
	answer := ""
	for len(*given) > 0 {
		row, column := given.number(), given.number()
		value, err := plasmastore.At[uint8](tensor, row, column)
		if err != nil {
			return "", err
		}
		answer += fmt.Sprint(value, " ")
	}
	return answer, nil
}

func main() {
	if len(os.Args) != 2 {
		os.Exit(2)
	}
	client, err := plasmastore.Connect(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	commands := map[string]func(*plasmastore.Client, *words) (string, error){
		"W": write, "R": read, "B": writeBundle, "G": readBundle, "P": look,
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		given := words(strings.Fields(lines.Text()))
		answer, err := commands[given.next()](client, &given)
		if err != nil {
			answer = "!" + err.Error()
		}
		fmt.Println(answer)
	}
}
