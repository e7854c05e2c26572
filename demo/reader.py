"""What both readers of the demo do first: get the digits out of the store, and say so."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

import plasma_store
from plasma_store import ObjectID
from shared_memory import backing, median_us

PATIENCE_MS = 30_000  # longer than any reader needs to start; then something is broken and the demo says so


def say(text: str) -> None:
    """One line of output, at once: two readers and a C++ program share the terminal."""
    print(text, flush=True)


def read_digits(client: plasma_store.PlasmaClient, me: str, other: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels, as views of the store's memory, once the reader called `other` holds them as well."""
    images = client.get_tensor(ObjectID.from_name("digits/images"), PATIENCE_MS).numpy()
    labels = client.get_tensor(ObjectID.from_name("digits/labels"), PATIENCE_MS).numpy()
    say(f"digits/images in memfd {backing(images)}")
    say(f"digits/labels in memfd {backing(labels)}")
    client.put_tensor(np.array([os.getpid()]), ObjectID.from_name(f"{me} holds the digits"))
    answer = client.get_tensor(ObjectID.from_name(f"{other} holds the digits"), PATIENCE_MS).numpy()
    say(f"holds {images.shape[0]} images at the same time as process {answer[0]}")
    return images, labels


def say_costs(client: plasma_store.PlasmaClient, npy: Path) -> None:
    """What reading all images costs: out of the store, and out of the file that they came from."""
    wanted = ObjectID.from_name("digits/images")
    from_store = median_us(lambda: client.get_tensor(wanted, PATIENCE_MS).numpy())
    from_file = median_us(lambda: np.load(npy))
    say(f"reading all images takes {from_store:.1f} µs by get_tensor, {from_file:.1f} µs by np.load, "
        "which makes a copy (medians of 300)")
