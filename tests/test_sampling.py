import numpy as np
import pytest
import torch

from fashion_lightning.data.sampling import TrainingBatches, epoch_order, evaluation_batches, split_indices


def batches(count=95, batch_size=10, seed=0, progress=(0, 0), rank=0, world_size=1):
    return TrainingBatches(torch.arange(count) + 1000, batch_size, seed, lambda: progress, rank, world_size)


def test_the_split_is_the_notebook_s():
    indices = list(range(60000))
    np.random.seed(0)
    np.random.shuffle(indices)
    train, val = split_indices(60000, seed=0, val_fraction=0.2)
    assert val.tolist() == indices[:12000]
    assert train.tolist() == indices[12000:]


def test_the_split_depends_on_its_seed():
    assert (
        split_indices(100, seed=0, val_fraction=0.2)[1].tolist()
        != split_indices(100, seed=1, val_fraction=0.2)[1].tolist()
    )


def test_the_order_is_frozen():
    assert epoch_order(torch.arange(8), seed=3, epoch=7).tolist() == [6, 4, 5, 7, 1, 2, 3, 0]


def test_every_epoch_and_seed_has_an_order_of_its_own():
    orders = {tuple(epoch_order(torch.arange(50), s, e).tolist()) for s in range(4) for e in range(4)}
    assert len(orders) == 16
    assert all(sorted(order) == list(range(50)) for order in orders)


def test_an_epoch_has_every_image_once_and_keeps_the_ragged_batch():
    sizes = [len(batch) for batch in batches()]
    assert sizes == [10] * 9 + [5]
    assert len(batches()) == 10
    assert sorted(torch.cat(list(batches())).tolist()) == list(range(1000, 1095))


@pytest.mark.parametrize("done", [0, 1, 9, 10])
def test_continues_where_the_epoch_stopped(done):
    rest = list(batches(progress=(3, done)))
    full = list(batches(progress=(3, 0)))
    assert [b.tolist() for b in rest] == [b.tolist() for b in full[done:]]
    assert len(batches(progress=(3, done))) == 10


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_global_order_does_not_depend_on_the_number_of_processes(world_size):
    alone = list(batches(count=92, batch_size=20))
    shares = zip(*(batches(92, 20, rank=rank, world_size=world_size) for rank in range(world_size)), strict=True)
    for whole, share in zip(alone, shares, strict=True):
        assert len({len(part) for part in share}) == 1
        assert torch.cat(share).tolist() == whole.tolist()


@pytest.mark.parametrize(("count", "batch_size"), [(100, 25), (95, 10)])
def test_refuses_batches_that_processes_cannot_share_equally(count, batch_size):
    with pytest.raises(ValueError, match=f"2 processes can share equally, got one of .* than {batch_size}"):
        batches(count, batch_size, world_size=2)


@pytest.mark.parametrize("count", [199, 200, 203])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_evaluation_sees_every_image_once_in_the_same_batches(count, world_size):
    shares = [evaluation_batches(torch.arange(count), 16, rank, world_size) for rank in range(world_size)]
    dealt = sorted((batch.tolist() for share in shares for batch in share), key=lambda batch: batch[0])
    assert dealt == [batch.tolist() for batch in torch.arange(count).split(16)]


def test_no_process_may_be_idle_in_an_evaluation():
    with pytest.raises(ValueError, match="got 2 of 500 images for 4 processes: lower eval_batch_size"):
        evaluation_batches(torch.arange(600), 500, 0, 4)
