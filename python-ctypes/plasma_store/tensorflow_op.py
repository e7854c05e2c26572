"""The TensorFlow operator of pyarrow.plasma, of which only the names are here: it is C++ over libplasma.

Old programs look whether it can be had: `build_plasma_tensorflow_op`, then `tf_plasma_op is None`, or a file at
TF_PLASMA_OP_PATH. The answer is no, and what would need it says why.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any, NoReturn

TF_PLASMA_OP_PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tensorflow", "plasma_op.so")
"""Where the compiled operator would be. There is none."""

tf_plasma_op: Any = None
"""The loaded operator: always None."""


def build_plasma_tensorflow_op() -> None:
    """Does nothing without TensorFlow, as ever; with it, raises NotImplementedError."""
    if importlib.util.find_spec("tensorflow") is not None:
        load_plasma_tensorflow_op()


def load_plasma_tensorflow_op() -> NoReturn:
    """Raises NotImplementedError."""
    raise NotImplementedError(
        "the TensorFlow operator of pyarrow.plasma is compiled with libplasma, which is not here; "
        "client.put_tensor stores an array, and client.get_tensor gives it without a copy, by numpy's interface and by DLPack"
    )
