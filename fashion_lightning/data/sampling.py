"""Which images are in which batch: pure functions of (seed, epoch, rank). Knows indices, not images.

Draws use NumPy's `RandomState`, whose streams are frozen: a seed gives the same order on every machine and version.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from fashion_lightning.errors import UserError

Progress = Callable[[], tuple[int, int]]  # epoch, and batches done in it


def split_indices(count: int, seed: int, val_fraction: float) -> tuple[Tensor, Tensor]:
    """Training and validation indices, (count - V,) and (V,) int64: shuffled once, the first V for validation."""
    indices = np.arange(count)
    np.random.RandomState(seed).shuffle(indices)
    val, train = torch.from_numpy(indices).tensor_split([int(count * val_fraction)])
    return train, val


def epoch_order(indices: Tensor, seed: int, epoch: int) -> Tensor:
    """`indices` (N,) in the order in which one epoch sees them."""
    return indices[np.random.RandomState([seed, epoch]).permutation(len(indices))]


def evaluation_batches(indices: Tensor, batch_size: int, rank: int, world_size: int) -> list[Tensor]:
    """Whole batches (B,) dealt round-robin, the same for any `world_size`. Raises UserError if a rank gets none."""
    batches = indices.split(batch_size)
    if len(batches) < world_size:
        got = f"{len(batches)} of {batch_size} images for {world_size} processes"
        raise UserError(f"expected at least one evaluation batch a process, got {got}: lower eval_batch_size")
    return list(batches[rank::world_size])


def gathered_order(indices: Tensor, batch_size: int, world_size: int) -> Tensor:
    """`indices` (N,) in the order in which `evaluation_batches` gives them to rank 0, then rank 1, and so on."""
    ranks = range(world_size)
    return torch.cat([batch for rank in ranks for batch in evaluation_batches(indices, batch_size, rank, world_size)])


class TrainingBatches(Sampler[Tensor]):
    """Index tensors (B,) of one rank's share of each global batch, for the rest of the current epoch.

    It keeps no state: `progress` gives (epoch, batches done in it) whenever an epoch starts or is resumed. Shares
    are contiguous, so the global order does not depend on the number of ranks. Raises UserError if the ranks cannot
    share every batch equally: their mean gradient would be wrong.
    """

    def __init__(
        self, indices: Tensor, batch_size: int, seed: int, progress: Progress, rank: int, world_size: int
    ) -> None:
        for size in (batch_size, len(indices) % batch_size):
            if size % world_size:
                expected = f"expected batches that {world_size} processes can share equally, got one of {size} images"
                raise UserError(f"{expected}: choose another batch_size than {batch_size}, or number of processes")
        self.indices, self.batch_size, self.seed = indices, batch_size, seed
        self.progress, self.rank, self.world_size = progress, rank, world_size

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        epoch, done = self.progress()
        for batch in self.global_batches(epoch)[done:]:
            yield batch.tensor_split(self.world_size)[self.rank]

    def global_batches(self, epoch: int) -> tuple[Tensor, ...]:
        """Batches of all ranks together."""
        return epoch_order(self.indices, self.seed, epoch).split(self.batch_size)
