"""The first reader: averages the even images digit by digit, shares the ten means and draws them.

Usage: mean_digits.py SOCKET IMAGES.npy PICTURE.png     IMAGES.npy is only read to compare what reading costs
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import plasma_store
from picture import draw_row
from reader import read_digits, say, say_costs


def main() -> None:
    socket, npy, png = sys.argv[1:]
    client = plasma_store.connect(socket)
    images, labels = read_digits(client, me="mean_digits.py", other="classify_digits.py")
    even_images, even_labels = images[::2], labels[::2]  # views, still no copy
    means = np.stack([even_images[even_labels == digit].mean(axis=0) for digit in range(10)])
    client.put_tensor(means, plasma_store.ObjectID.from_name("digits/means"))
    say(f"averaged the {len(even_images)} even images and put the ten means into the store as \"digits/means\"")
    draw_row(means, Path(png))
    say(f"drew them: {png}")
    say_costs(client, Path(npy))


if __name__ == "__main__":
    main()
