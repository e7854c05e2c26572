"""Who watches the camera of camera.cpp, and lags: the Python counterpart of its second half, with the same output.

  camera.py SOCKET watch    in the store that listens at SOCKET: start `camera SOCKET film` in another process, before or after

Needs numpy.
"""

from __future__ import annotations

import sys
import time

import plasma_store
from plasma_store import ObjectID, TensorRing

PATIENCE_S = 30.0
WORK_S = 0.01
CAMERA = ObjectID.from_name("camera", "examples")


def watch(client: plasma_store.PlasmaClient) -> None:
    """Looks at each frame for longer than the camera takes for one; what is looked at does not change meanwhile."""
    seen, following = 0, 0
    with TensorRing.open(CAMERA, client=client, timeout=PATIENCE_S) as ring:
        for frame in ring:
            number = int(frame[0, 0])
            time.sleep(WORK_S)
            assert number >= following, f"frame {number} is out of order"
            assert (frame == number).all(), "a frame is mixed"
            seen, following = seen + 1, number + 1
    print(f"saw {seen} frames, missed {following - seen}, the last was {following - 1}")


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[1] != "watch":
        print(f"usage: {sys.argv[0]} SOCKET watch", file=sys.stderr)
        return 2
    watch(plasma_store.connect(arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
