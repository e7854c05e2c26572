"""The demo's data: the 1797 handwritten digits that scikit-learn's wheel carries, as two .npy files.

Usage: digits.py DIRECTORY     writes DIRECTORY/images.npy (float32 [1797, 8, 8], 0 to 16)
                               and    DIRECTORY/labels.npy (int64 [1797])

The wheel is fetched by pip once, and only this one file of it is kept; nothing of scikit-learn is installed.
"""

from __future__ import annotations

import gzip
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

MEMBER = "sklearn/datasets/data/digits.csv.gz"
COUNT, SIDE = 1797, 8


def fetch(target: Path) -> None:
    """Puts the compressed table into `target`, out of the newest wheel that pip finds for this Python."""
    with tempfile.TemporaryDirectory(dir=target.parent) as directory:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary=:all:", "--dest", directory, "scikit-learn"]
        subprocess.run(command, check=True)
        (wheel,) = Path(directory).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            part = target.with_suffix(".part")
            part.write_bytes(archive.read(MEMBER))
    part.rename(target)  # an interrupted download leaves no half file under the final name


def parse(table: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of the table: 64 pixels and the label in each of its lines."""
    with gzip.open(table, "rt", encoding="ascii") as lines:
        rows = np.loadtxt(lines, delimiter=",", dtype=np.float32)
    if rows.shape != (COUNT, SIDE * SIDE + 1):
        raise ValueError(f"{table} holds {rows.shape}, not {COUNT} lines of {SIDE * SIDE + 1} numbers")
    return rows[:, :-1].reshape(COUNT, SIDE, SIDE), rows[:, -1].astype(np.int64)


def main() -> None:
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    table = directory / "digits.csv.gz"
    if not table.exists():
        fetch(table)
    images, labels = parse(table)
    np.save(directory / "images.npy", np.ascontiguousarray(images))
    np.save(directory / "labels.npy", labels)


if __name__ == "__main__":
    main()
