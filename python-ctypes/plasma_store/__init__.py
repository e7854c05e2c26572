"""plasma_store: tensors in shared memory, between processes and languages, without a copy.

    import numpy as np
    import plasma_store

    with plasma_store.start_store() as store, plasma_store.connect(store.socket_path) as client:
        object_id = client.put_tensor(np.arange(6.0).reshape(2, 3))
        print(client.get_tensor(object_id).numpy())

A thin layer over the C library libplasma_store, by ctypes. Names, argument order and millisecond timeouts of old calls are
those of pyarrow.plasma.
"""

from ._abi import PLASMA_VERSION as __version__
from .buffer import Buffer, PlasmaBuffer
from .bundle import Bundle
from .client import PlasmaClient, connect
from .daemon import start_plasma_store
from .errors import (
    PlasmaAborted,
    PlasmaAddressInUse,
    PlasmaBusy,
    PlasmaClosed,
    PlasmaConnectError,
    PlasmaCorrupt,
    PlasmaDisconnected,
    PlasmaError,
    PlasmaExported,
    PlasmaForked,
    PlasmaInterrupted,
    PlasmaInvalidArgument,
    PlasmaIOError,
    PlasmaNotStored,
    PlasmaObjectAlreadySealed,
    PlasmaObjectExists,
    PlasmaObjectInUse,
    PlasmaObjectNotFound,
    PlasmaObjectNotSealed,
    PlasmaOutOfMemory,
    PlasmaOwnerDied,
    PlasmaPanic,
    PlasmaProtocolError,
    PlasmaStoreFull,
    PlasmaTimeout,
    PlasmaUnsupported,
    PlasmaUnsupportedPeer,
)
from .keeping import ObjectInfo
from .object_id import ObjectID
from .ring_slot import RingMessage, RingSlot
from .shared_lock import SharedLock
from .shared_tensor import SharedTensor
from .store import Store, start_store
from .tensor import Tensor
from .tensor_ring import TensorRing
from .tensorflow_op import TF_PLASMA_OP_PATH, build_plasma_tensorflow_op, load_plasma_tensorflow_op, tf_plasma_op
from .values import ObjectNotAvailable

__all__ = [
    "TF_PLASMA_OP_PATH",
    "Buffer",
    "Bundle",
    "ObjectID",
    "ObjectInfo",
    "ObjectNotAvailable",
    "PlasmaAborted",
    "PlasmaAddressInUse",
    "PlasmaBuffer",
    "PlasmaBusy",
    "PlasmaClient",
    "PlasmaClosed",
    "PlasmaConnectError",
    "PlasmaCorrupt",
    "PlasmaDisconnected",
    "PlasmaError",
    "PlasmaExported",
    "PlasmaForked",
    "PlasmaIOError",
    "PlasmaInterrupted",
    "PlasmaInvalidArgument",
    "PlasmaNotStored",
    "PlasmaObjectAlreadySealed",
    "PlasmaObjectExists",
    "PlasmaObjectInUse",
    "PlasmaObjectNotFound",
    "PlasmaObjectNotSealed",
    "PlasmaOutOfMemory",
    "PlasmaOwnerDied",
    "PlasmaPanic",
    "PlasmaProtocolError",
    "PlasmaStoreFull",
    "PlasmaTimeout",
    "PlasmaUnsupported",
    "PlasmaUnsupportedPeer",
    "RingMessage",
    "RingSlot",
    "SharedLock",
    "SharedTensor",
    "Store",
    "Tensor",
    "TensorRing",
    "__version__",
    "build_plasma_tensorflow_op",
    "connect",
    "load_plasma_tensorflow_op",
    "start_plasma_store",
    "start_store",
    "tf_plasma_op",
]
