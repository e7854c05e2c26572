package plasmastore

/*
#include <plasma_store.h>
#include <stdlib.h>

// All bytes lie one after the other: Go must not give C pointers to pointers of its own.
static plasma_status put_batch(plasma_client *client, const plasma_object_id *ids, const uint64_t *sizes, char **names,
                               size_t count, const uint8_t *bytes, const plasma_create_options *options) {
  plasma_put_item *items = (plasma_put_item *)calloc(count + 1, sizeof *items);
  if (items == NULL) {
    return PLASMA_OUT_OF_MEMORY;
  }
  for (size_t i = 0; i < count; i++) {
    items[i].id = ids[i];
    items[i].name = *names[i] ? names[i] : NULL;
    items[i].data = bytes;
    items[i].data_size = sizes[2 * i];
    items[i].metadata = bytes + sizes[2 * i];
    items[i].metadata_size = sizes[2 * i + 1];
    bytes += sizes[2 * i] + sizes[2 * i + 1];
  }
  plasma_status status = plasma_put_batch(client, items, count, options);
  free(items);
  return status;
}
*/
import "C"

// PutItem is an object of a batch.
type PutItem struct {
	ID       ObjectID
	Data     []byte
	Metadata []byte
	Name     string // as in CreateOptions; "" for none
}

// PutBatch stores copies of many small objects with one request: all of them, or none. A batch has at most 64 MiB.
func (c *Client) PutBatch(items []PutItem) error {
	ids, sizes, all := make([]ObjectID, len(items)+1), make([]C.uint64_t, 2*len(items)+1), []byte{}
	texts := make([]string, len(items))
	for i, item := range items {
		ids[i], texts[i] = item.ID, item.Name
		sizes[2*i], sizes[2*i+1] = C.uint64_t(len(item.Data)), C.uint64_t(len(item.Metadata))
		all = append(append(all, item.Data...), item.Metadata...)
	}
	all = append(all, 0) // so that there is a first
	names, free, err := cStrings(texts, "item's name")
	if err != nil {
		return err
	}
	defer free()
	return c.create(CreateOptions{}, func(wanted *C.plasma_create_options) C.plasma_status {
		return C.put_batch(c.handle, ids[0].c(), &sizes[0], names, C.size_t(len(items)), firstByte(all), wanted)
	})
}
