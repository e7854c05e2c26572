"""A DataLoader of torch whose workers stack their batches right into a ring; what they send to the main process is only how many samples.

By itself a DataLoader makes a file in shared memory for each batch, and sends its descriptor.
"""

from typing import List

import torch
from torch.utils.data import DataLoader, Dataset

from plasma_store import TensorRing

SAMPLES, BATCH, WIDTH = 64, 8, 3


class Numbers(Dataset):
    """As many rows as there are samples."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, number: int) -> torch.Tensor:
        return torch.full((WIDTH,), float(number))


class IntoRing:
    """Puts batches together in the slots of a ring."""

    def __init__(self, ring: TensorRing) -> None:
        self.ring = ring

    def __call__(self, samples: List[torch.Tensor]) -> int:
        with self.ring.acquire() as slot:
            torch.stack(samples, out=torch.from_numpy(slot.array))
        return len(samples)


def main() -> None:
    """Sums all samples; each batch is read where a worker left it."""
    total = 0.0
    with TensorRing(8, (BATCH, WIDTH), "float32") as ring:
        loader = DataLoader(
            Numbers(), batch_size=BATCH, num_workers=2, collate_fn=IntoRing(ring), multiprocessing_context="spawn"
        )
        for _ in loader:
            with ring.take() as message:
                total += float(torch.from_dlpack(message).sum())
    print(f"the sum is {total:g}")


if __name__ == "__main__":
    main()
