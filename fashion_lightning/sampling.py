"""Which images make up which batch: pure functions of (seed, epoch, rank). Knows indices, not images.

NumPy's `RandomState` draws, since its streams are frozen for good: the same seed gives the same order on every
machine and in every version.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from fashion_lightning.errors import UserError


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
    """Whole batches dealt round-robin: every index once over all ranks, batches the same for any `world_size`.

    Raises:
        UserError: There are fewer batches than processes; an idle process would leave the others waiting.
    """
    batches = indices.split(batch_size)
    if len(batches) < world_size:
        raise UserError(
            f"expected at least one evaluation batch a process, got {len(batches)} of {batch_size} images "
            f"for {world_size} processes: lower eval_batch_size"
        )
    return list(batches[rank::world_size])


class TrainingBatches(Sampler[Tensor]):
    """Index tensors (B,) of one rank's share of each global batch, for the rest of the epoch under way.

    It keeps no state: `progress` says (epoch, batches done in it) whenever an epoch is begun or resumed. The
    ranks' shares are contiguous, so the global order does not depend on their number.

    Args:
        batch_size: Images in a global batch; the last one of an epoch may be smaller.

    Raises:
        UserError: The processes cannot share every batch equally; their mean gradient would be wrong.
    """

    def __init__(
        self,
        indices: Tensor,
        batch_size: int,
        seed: int,
        progress: Callable[[], tuple[int, int]],
        rank: int,
        world_size: int,
    ) -> None:
        for size in (batch_size, len(indices) % batch_size):
            if size % world_size:
                raise UserError(
                    f"expected batches that {world_size} processes can share equally, got one of {size} images: "
                    f"choose another batch_size than {batch_size}, or another number of processes"
                )
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
