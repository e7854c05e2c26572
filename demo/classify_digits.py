"""The second reader: classifies the odd images by the nearest of the means that the first reader puts into the store.

Usage: classify_digits.py SOCKET IMAGES.npy     IMAGES.npy is only read to compare what reading costs
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import plasma_store
from reader import PATIENCE_MS, read_digits, say, say_costs


def nearest(images: np.ndarray, means: np.ndarray) -> np.ndarray:
    """For each image the index of the mean with the smallest squared distance."""
    differences = images[:, None] - means[None]
    distances: np.ndarray = np.square(differences).sum(axis=(2, 3))
    return distances.argmin(axis=1)


def main() -> None:
    socket, npy = sys.argv[1:]
    client = plasma_store.connect(socket)
    images, labels = read_digits(client, me="classify_digits.py", other="mean_digits.py")
    means = client.get_tensor(plasma_store.ObjectID.from_name("digits/means"), PATIENCE_MS).numpy()
    odd_images, odd_labels = images[1::2], labels[1::2]  # views, still no copy
    right = int((nearest(odd_images, means) == odd_labels).sum())
    say(f"classified the {len(odd_images)} odd images by the nearest mean: "
        f"{right} right, accuracy {right / len(odd_images):.1%}")
    say_costs(client, Path(npy))


if __name__ == "__main__":
    main()
