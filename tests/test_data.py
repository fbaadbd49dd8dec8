from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torchvision import transforms

from fashion_lightning.data.module import FashionMNISTDataModule, normalize


@pytest.fixture
def data(tiny_data):
    module = FashionMNISTDataModule(tiny_data, batch_size=30, eval_batch_size=16, verify=False)
    module.setup()
    return module


def labels_of(loader):
    return torch.cat([labels for _, labels in loader]).tolist()


def test_pixels_are_the_notebook_s_to_the_bit():
    every_value = np.arange(256, dtype=np.uint8).reshape(16, 16)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    expected = transform(Image.fromarray(every_value))
    actual = normalize(torch.from_numpy(every_value))
    assert torch.equal(actual, expected[0])
    assert actual.dtype == torch.float32
    assert (actual.min(), actual.max()) == (-1, 1)


def test_normalizing_leaves_the_data_set_alone(data):
    images, labels = batch = next(iter(data.train_dataloader()))
    before = images.clone()
    floats, same_labels = data.on_after_batch_transfer(batch, 0)
    assert torch.equal(images, before)
    assert torch.equal(floats, normalize(before))
    assert same_labels is labels


def test_loaders_yield_whole_uint8_batches(data):
    batches = list(data.train_dataloader())
    assert [tuple(images.shape) for images, _ in batches] == [(30, 1, 28, 28)] * 6 + [(20, 1, 28, 28)]
    images, labels = batches[0]
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64


def test_images_keep_their_labels(data):
    for images, labels in [*data.train_dataloader(), *data.val_dataloader(), *data.test_dataloader()]:
        brightest_row = images.float().mean((1, 3)).argmax(1)
        assert torch.equal(brightest_row, 2 * labels + 4)


def test_evaluation_covers_every_split_in_the_order_of_the_file(data):
    assert labels_of(data.test_dataloader()) == data.splits["test"].labels.tolist()
    data.tested = ("train", "val", "test")
    loaders = data.test_dataloader()
    assert list(loaders) == ["train", "val", "test"]
    for split, loader in loaders.items():
        _, labels = data.splits[split][:]
        assert labels_of(loader) == labels.tolist()
    assert labels_of(data.val_dataloader()) == labels_of(loaders["val"])
    assert [len(split) for split in data.splits.values()] == [200, 50, 203]


def test_split_and_order_have_seeds_of_their_own(tiny_data):
    def make(**seeds):
        module = FashionMNISTDataModule(tiny_data, verify=False, **seeds)
        module.setup()
        return module.splits["val"].indices.tolist(), labels_of(module.train_dataloader())

    val, order = make()
    assert make() == (val, order)
    other_val, other_order = make(seed=1)
    assert other_val == val
    assert other_order != order
    assert sorted(other_order) == sorted(order)
    assert make(split_seed=1)[0] != val


def test_setup_may_run_any_number_of_times(data):
    before = data.splits
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    assert data.splits is before


def test_loaders_draw_nothing_from_the_global_generators(data):
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(0)
    np.random.seed(0)
    list(data.train_dataloader())
    list(data.val_dataloader())
    assert (torch.rand(1), np.random.rand()) == expected


@pytest.mark.parametrize(("device", "pinned"), [("cuda", True), ("cpu", False), (None, False)])
def test_memory_is_pinned_for_a_run_on_cuda_alone(device, pinned, data, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    strategy = SimpleNamespace(root_device=torch.device(device or "cpu"))
    whole = {"overfit_batches": 0, "distributed_sampler_kwargs": None}
    data.trainer = SimpleNamespace(global_rank=0, world_size=1, strategy=strategy, **whole) if device else None
    assert data.train_dataloader().pin_memory == data.val_dataloader().pin_memory == pinned


@pytest.mark.parametrize(
    "setting",
    [{"batch_size": 0}, {"eval_batch_size": -1}, {"split_seed": -1}, {"val_fraction": -0.1}, {"val_fraction": 1}],
)
def test_refuses_what_cannot_be(setting):
    [(name, value)] = setting.items()
    with pytest.raises(ValueError, match=rf"--data\.{name}: expected .*, got {value}"):
        FashionMNISTDataModule(**setting)


def test_the_real_split(real_data):
    module = FashionMNISTDataModule(real_data)
    module.setup()
    assert [len(split) for split in module.splits.values()] == [48000, 12000, 10000]
    assert len(module.train_dataloader()) == 800
    train, val = (set(module.splits[split].indices.tolist()) for split in ("train", "val"))
    assert train | val == set(range(60000))


def test_without_validation_all_images_are_trained_on(tiny_data):
    module = FashionMNISTDataModule(tiny_data, val_fraction=0, verify=False)
    module.setup()
    assert {name: len(split) for name, split in module.splits.items()} == {"train": 250, "test": 203}
    assert module.val_dataloader() == []
    module.tested = ("train", "val", "test")
    assert list(module.test_dataloader()) == ["train", "test"]


def test_loaders_read_the_files_that_setup_has_not(tiny_data):
    for loader, images in (("train", 200), ("val", 50), ("test", 203), ("predict", 203)):
        module = FashionMNISTDataModule(tiny_data, verify=False)
        assert len(labels_of(getattr(module, f"{loader}_dataloader")())) == images


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"overfit_batches": 2}, "overfit_batches: expected 0: .*; use limit_train_batches"),
        ({"strategy": "ddp", "devices": 2}, "use_distributed_sampler=False: the data module shares the batches"),
        ({"strategy": "ddp", "devices": 1}, "use_distributed_sampler=False: the data module shares the batches"),
    ],
)
def test_batches_are_not_replaced_by_those_of_lightning(data, argument, message):
    data.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **argument)
    for loader in (data.train_dataloader, data.val_dataloader, data.test_dataloader, data.predict_dataloader):
        with pytest.raises(ValueError, match=message):
            loader()
