"""The floor (native/floor.hpp) by ctypes: a call, a view, a call, and nothing that a package would add."""

import ctypes
import os
from ctypes import POINTER, byref, c_char_p, c_float, c_ubyte, c_uint64, c_void_p

import numpy as np
from measure import Options, object_id
from workloads import Peer, main

lib = ctypes.CDLL(os.environ["BENCH_FLOOR_LIBRARY"])
lib.floor_open.restype = c_void_p
lib.floor_open.argtypes = [c_char_p, c_uint64, c_uint64]
lib.floor_put.restype = None
lib.floor_put.argtypes = [c_void_p, c_char_p, c_void_p, c_uint64]
lib.floor_get.restype = c_void_p
lib.floor_get.argtypes = [c_void_p, c_char_p, POINTER(c_void_p)]
lib.floor_release.restype = None
lib.floor_release.argtypes = [c_void_p, c_void_p]
lib.floor_delete.restype = None
lib.floor_delete.argtypes = [c_void_p, c_char_p]


class Floor(Peer):
    def __init__(self) -> None:
        self._ids = {number: object_id(number) for number in range(1000)}

    def connect(self, options: Options) -> None:
        self._store = lib.floor_open(options.where.encode(), options.capacity, options.objects)
        self._bytes = c_ubyte * options.size
        self._floats = c_float * (options.size // 4)

    def _id(self, number):
        return self._ids.get(number) or object_id(number)

    def put(self, number, source):
        lib.floor_put(self._store, self._id(number), source.ctypes.data, source.nbytes)

    put_tensor = put

    def drop(self, number):
        lib.floor_delete(self._store, self._id(number))

    def read(self, number):
        hold = c_void_p()
        address = lib.floor_get(self._store, self._id(number), byref(hold))
        byte = c_ubyte.from_address(address).value
        lib.floor_release(self._store, hold)
        return byte

    def read_batch(self, numbers):
        return sum(self.read(number) for number in numbers)

    def view(self, number):
        return memoryview(self._bytes.from_address(lib.floor_get(self._store, self._id(number), byref(c_void_p())))).cast("B")

    def first_element(self, number):
        hold = c_void_p()
        address = lib.floor_get(self._store, self._ids[number], byref(hold))
        element = np.frombuffer(self._floats.from_address(address), dtype=np.float32)[0]
        lib.floor_release(self._store, hold)
        return element


main(Floor())
