// The tutorial of Apache Arrow Plasma in Go: a tensor of 1000 float32, all 2.0, under the id of twenty '1' bytes. It
// shares its object and output with c-examples/tutorial.cpp and tutorial.py.
//
//	tutorial                     puts and gets it, in a store that lives in this process and ends with it
//	tutorial SOCKET put|get      one half, in the store that listens at SOCKET
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"plasmastore"
)

// tutorialID is twenty '1'.
var tutorialID = *(*plasmastore.ObjectID)([]byte(strings.Repeat("1", 20)))

func put(client *plasmastore.Client) error {
	values := make([]float32, 1000)
	for i := range values {
		values[i] = 2
	}
	if _, err := client.Delete(tutorialID); err != nil { // what an earlier run left
		return err
	}
	if err := plasmastore.PutTensor(client, tutorialID, values, len(values)); err != nil {
		return err
	}
	fmt.Printf("put %d float32 of value %v\n", len(values), values[0])
	return nil
}

func get(client *plasmastore.Client) error {
	patience, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tensor, err := client.GetTensor(patience, tutorialID)
	if err != nil {
		return err
	}
	defer tensor.Close()
	values, err := plasmastore.Values[float32](tensor)
	if err != nil {
		return err
	}
	least, most, sum := values[0], values[0], float64(0)
	for _, value := range values {
		if value < least {
			least = value
		}
		if value > most {
			most = value
		}
		sum += float64(value)
	}
	fmt.Printf("got %d %v from %v to %v, sum %v\n", len(values), tensor.DType(), least, most, sum)
	return nil
}

// at makes calls on a client of the store at a socket.
func at(socket string, calls ...func(*plasmastore.Client) error) error {
	client, err := plasmastore.Connect(socket)
	if err != nil {
		return err
	}
	defer client.Close()
	for _, call := range calls {
		if err := call(client); err != nil {
			return err
		}
	}
	return nil
}

func putAndGet() error {
	store, err := plasmastore.StartStore(plasmastore.StoreOptions{})
	if err != nil {
		return err
	}
	defer store.Close()
	return at(store.Socket(), put, get)
}

func run(arguments []string) error {
	switch {
	case len(arguments) == 0:
		return putAndGet()
	case len(arguments) == 2 && arguments[1] == "put":
		return at(arguments[0], put)
	case len(arguments) == 2 && arguments[1] == "get":
		return at(arguments[0], get)
	}
	fmt.Fprintf(os.Stderr, "usage: %s [SOCKET put|get]\n", os.Args[0])
	os.Exit(2)
	return nil
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
