"""Scripts that are played to Plasma 11's daemon and to ours through pyarrow 11's client, with the same replies throughout.

`make soak` and `make conformance COUNT=` play more of them; tests/conformance/ plays and compares. $PLASMA_TEST_PYARROW11 is a
Python that has pyarrow 11; without it this is skipped.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OLD_PYTHON = os.environ.get("PLASMA_TEST_PYARROW11")
OURS = os.environ.get("PLASMA_STORE_SERVER", str(ROOT / "target" / "debug" / "plasma-store-server"))
COUNT = 300


@pytest.mark.skipif(not OLD_PYTHON, reason="$PLASMA_TEST_PYARROW11 is not set to a Python with pyarrow 11")
def test_the_old_daemon_and_ours_say_the_same() -> None:
    assert OLD_PYTHON
    command = [OLD_PYTHON, str(ROOT / "tests" / "conformance" / "run.py"), "--count", str(COUNT), "--ours", OURS]
    # Neither daemon knows of our package, and the player must find pyarrow's own.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    played = subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert played.returncode == 0, played.stdout
    assert f"{COUNT} scripts played" in played.stdout
