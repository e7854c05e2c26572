"""Bundles: many named tensors in one object, which is byte for byte a safetensors file."""

from __future__ import annotations

import ctypes
from typing import Any, Dict, Iterator, List, Mapping, Optional

from . import _abi
from ._lib import lib
from .buffer import Hold
from .dlpack import Source
from .errors import PlasmaError, check
from .object_id import ObjectID, c_text
from .progress import Copier, Elements, elements_of
from .reference import Place
from .tensor import Tensor


class Bundle(Mapping[str, Tensor]):
    """Tensors by their names, in the order in which they lie. Made by `PlasmaClient.get_tensors`.

    None is copied, and nothing of them is read before it is asked for. Each keeps the whole object's memory.

        >>> import numpy as np, plasma_store
        >>> with plasma_store.start_store(1 << 20) as store, plasma_store.connect(store.socket_path) as client:
        ...     model = {"weight": np.ones((2, 3), dtype="float32"), "bias": np.zeros(2)}
        ...     bundle = client.get_tensors(client.put_tensors(model, metadata={"step": "5"}))
        >>> bundle
        Bundle({'weight': (2, 3) float32, 'bias': (2,) float64})
        >>> bundle["weight"].numpy().sum().item(), bundle.metadata
        (6.0, {'step': '5'})
    """

    __slots__ = ("__weakref__", "_tensors", "metadata")

    metadata: Dict[str, str]
    """What the writer had to say beside the tensors: `__metadata__` of the file."""

    def __init__(
        self, hold: Hold, object_id: Optional[ObjectID] = None, place: Optional[Place] = None, private: bool = False
    ) -> None:
        """Reads what the object says of itself. Raises PlasmaCorrupt when it is not a bundle."""
        bundle = ctypes.POINTER(_abi.tensor_bundle)()
        check(lib.tensor_bundle_from_buffer(hold, bundle))
        try:
            names = [_name(bundle, index) for index in range(lib.tensor_bundle_size(bundle))]
            self._tensors = {
                name: Tensor(_hold(bundle, index), object_id, place, private, name) for index, name in enumerate(names)
            }
            self.metadata = dict(_said(bundle, index) for index in range(lib.tensor_bundle_metadata_size(bundle)))
        finally:
            lib.tensor_bundle_free(bundle)

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        each = (f"{name!r}: {tensor.shape} {tensor.dtype}" for name, tensor in self.items())
        return f"Bundle({{{', '.join(each)}}})"


def _name(bundle: Any, index: int) -> str:
    name = ctypes.c_char_p()
    check(lib.tensor_bundle_name(bundle, index, name))
    return (name.value or b"").decode()


def _hold(bundle: Any, index: int) -> Hold:
    hold = Hold()
    check(lib.tensor_bundle_buffer(bundle, index, hold))
    return hold


def _said(bundle: Any, index: int) -> Any:
    key, value = ctypes.c_char_p(), ctypes.c_char_p()
    check(lib.tensor_bundle_metadata(bundle, index, key, value))
    return (key.value or b"").decode(), (value.value or b"").decode()


class NewBundle:
    """Arrays of any libraries, as C takes them. What lends them stays borrowed while this lives."""

    def __init__(self, tensors: Mapping[str, Any], copy: bool) -> None:
        self._sources: List[Source] = [_source(name, value, copy) for name, value in tensors.items()]
        self.items = (_abi.tensor_bundle_item * len(tensors))()
        for item, name, source in zip(self.items, tensors, self._sources):
            item.name, item.tensor = c_text(name, "name"), ctypes.pointer(source.tensor)
            item.flags = _abi.DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED if source.padded else 0
        self._names = [*tensors]

    def parts(self) -> Optional[Parts]:
        """The same to be put in parts; None if one of them cannot."""
        found = {name: elements_of(source) for name, source in zip(self._names, self._sources)}
        elements = {name: each for name, each in found.items() if each is not None}
        return Parts(elements) if len(elements) == len(found) else None


class Parts:
    """Arrays that lie row by row, to be put in parts."""

    def __init__(self, elements: Dict[str, Elements]) -> None:
        self._elements = elements
        self.size: int = sum(each.size for each in elements.values())

    def write(self, bundle: Bundle, copier: Copier) -> None:
        """Fills a bundle that is being created."""
        for name, elements in self._elements.items():
            if elements.size:
                elements.write(bundle[name], copier)


def _source(name: str, value: Any, copy: bool) -> Source:
    """An array, with its name in the error where it cannot be stored."""
    try:
        return Source(value, copy)
    except PlasmaError as error:
        raise type(error)(f"tensor {name!r}: {error}") from error


def bundle_options(metadata: Mapping[str, str]) -> _abi.tensor_bundle_options:
    """Options with these keys and values."""
    texts = ctypes.c_char_p * len(metadata)
    options = _abi.tensor_bundle_options(metadata_count=len(metadata))
    options.metadata_keys = texts(*(c_text(key, "metadata") for key in metadata))
    options.metadata_values = texts(*(c_text(value, f"metadata[{key!r}]") for key, value in metadata.items()))
    return options
