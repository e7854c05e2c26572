"""Objects that are immutable for the kernel: whatever creates one, and when it can be sealed."""

from __future__ import annotations

import os
from typing import Any, List

import pytest

import plasma_store
from plasma_store import ObjectID, PlasmaClient, Store

SIZE = 100_000
BYTES = (bytes(range(256)) * 400)[:SIZE]
PUTS: List[Any] = [
    pytest.param(lambda client, name, **how: client.create_and_seal(name, BYTES, **how), id="create_and_seal"),
    pytest.param(lambda client, name, **how: client.put_raw_buffer(BYTES, name, **how), id="put_raw_buffer"),
    pytest.param(lambda client, name, **how: client.put(BYTES, name, **how), id="put"),
    pytest.param(
        lambda client, name, **how: client.put_tensor(pytest.importorskip("numpy").ones(SIZE), name, **how), id="put_tensor"
    ),
]


def bytes_of(view: Any) -> bytes:
    return bytes(memoryview(view))


@pytest.mark.parametrize("put", PUTS)
def test_whatever_puts_can_put_what_nobody_writes(any_store: Store, put: Any) -> None:
    with plasma_store.connect(any_store.socket_path) as client, plasma_store.connect(any_store.socket_path) as reader:
        usual, immutable = ObjectID.from_random(), ObjectID.from_random()
        put(client, usual)
        put(client, immutable, immutable=True)
        assert [reader.is_immutable(name) for name in (usual, immutable)] == [False, True]
        one, other = (bytes_of(view) for view in reader.get_buffers([usual, immutable]))
        assert one == other
        client.delete([usual, immutable])


def test_small_values_too(client: PlasmaClient) -> None:
    name = client.put({"small": 1}, immutable=True)
    assert client.is_immutable(name) and client.get(name) == {"small": 1}
    with pytest.raises(plasma_store.PlasmaObjectNotFound):
        client.is_immutable(ObjectID.from_random())


def test_all_views_have_to_go_before_the_seal(client: PlasmaClient) -> None:
    name = ObjectID.from_random()
    buffer = client.create(name, SIZE, b"metadata", immutable=True)
    view = memoryview(buffer).cast("B")
    view[:] = BYTES
    part = view[10:20]
    del buffer, view
    for call in (client.seal, client.seal_nowait, client.abort):
        with pytest.raises(plasma_store.PlasmaBusy, match=name.hex()):
            call(name)
    assert not client.contains(name)
    part[:] = b"0123456789"
    del part
    client.seal(name)
    (found,) = client.get_buffers([name])
    assert bytes_of(found) == BYTES[:10] + b"0123456789" + BYTES[20:]
    assert client.is_immutable(name)


def test_a_tensor_is_sealed_when_its_arrays_are_gone(client: PlasmaClient) -> None:
    numpy = pytest.importorskip("numpy")
    name = ObjectID.from_random()
    tensor = client.create_tensor(name, [100, 100], "float32", immutable=True)
    array = numpy.asarray(tensor)
    array[:] = 7
    del tensor
    with pytest.raises(plasma_store.PlasmaBusy):
        client.seal(name)
    del array
    client.seal(name)
    assert client.is_immutable(name) and (numpy.asarray(client.get_tensor(name)) == 7).all()


def test_what_is_given_up_leaves_nothing(store: Store, client: PlasmaClient) -> None:
    name = ObjectID.from_random()
    for _ in range(100):
        buffer = client.create(name, SIZE, immutable=True)
        del buffer
        client.abort(name)
    assert client.stats()["used_bytes"] == 0


def test_while_a_child_lives_that_was_forked_before_the_seal(client: PlasmaClient) -> None:
    name = ObjectID.from_random()
    buffer = client.create(name, SIZE, immutable=True)
    memoryview(buffer).cast("B")[:] = BYTES
    told, teller = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(teller)
        os.read(told, 1)
        os._exit(0)
    del buffer
    client.seal(name)
    assert client.is_immutable(name)
    os.close(teller)
    assert os.waitpid(child, 0)[1] == 0
    os.close(told)

