package plasmastore_test

import (
	"context"
	"fmt"
	"log"
	"plasmastore"
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
