import copy
import pickle

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset

from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.command_line import build, settings
from fashion_lightning.data.module import FashionMNISTDataModule
from fashion_lightning.networks import FashionCNN


@pytest.fixture
def data(tiny_data):
    return FashionMNISTDataModule(tiny_data, batch_size=30, eval_batch_size=16, verify=False)


def trainer(tmp_path, **kwargs):
    defaults = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(default_root_dir=tmp_path, **{**defaults, **kwargs})


class Recorder(pl.Callback):
    """Keeps each step's loss, batch and learning rate, and the metrics of each epoch."""

    def __init__(self):
        self.steps, self.epochs = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        self.steps.append((float(outputs["loss"]), len(batch[1]), lr))

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch:
            self.epochs.append(dict(trainer.callback_metrics))

    def on_train_end(self, trainer, pl_module):
        self.epochs.append(dict(trainer.callback_metrics))


def test_means_are_over_images_with_a_ragged_batch(tmp_path, data):
    """A hand count: rate zero and no batch norm, so that every epoch sees the same function."""
    torch.manual_seed(0)
    model = FashionClassifier(
        network=lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), optimizer=lambda params: SGD(params, lr=0.0)
    )
    recorder = Recorder()
    fitter = trainer(tmp_path, max_epochs=2, callbacks=[recorder])
    fitter.fit(model, data)
    data.tested = ("train", "val", "test")
    fitter.test(model, data, verbose=False)
    recorder.epochs.append(dict(fitter.callback_metrics))
    assert len(recorder.epochs) == 3
    for metrics in recorder.epochs:
        for split in ("train", "val") if metrics is not recorder.epochs[-1] else ("train", "val", "test"):
            images, labels = data.splits[split][:]
            with torch.no_grad():
                logits = model((images.double() / 127.5 - 1).float())
            assert metrics[f"{split}/images"] == len(labels)
            assert metrics[f"{split}/accuracy"] == (logits.argmax(1) == labels).double().mean()
            expected = F.cross_entropy(logits.double(), labels)
            torch.testing.assert_close(metrics[f"{split}/loss"], expected, rtol=1e-6, atol=0)


def test_the_first_step_is_the_plain_loop_s(tmp_path, data):
    torch.manual_seed(0)
    model = FashionClassifier()
    reference = FashionClassifier().network
    reference.load_state_dict(model.network.state_dict())
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.01)
    data.setup()
    losses = []
    for images, labels in data.train_dataloader():
        loss = F.cross_entropy(reference(images / 127.5 - 1), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] *= 0.999
        losses.append(loss.item())
    recorder = Recorder()
    trainer(tmp_path, callbacks=[recorder]).fit(model, data)
    assert [size for _, size, _ in recorder.steps] == [30] * 6 + [20]
    assert [loss for loss, _, _ in recorder.steps] == pytest.approx(losses, rel=1e-3)


def test_the_rate_falls_after_every_batch(tmp_path, data):
    recorder = Recorder()
    trainer(tmp_path, max_epochs=2, callbacks=[recorder]).fit(FashionClassifier(), data)
    rates = [rate for _, _, rate in recorder.steps]
    assert rates == pytest.approx([0.01 * 0.999**step for step in range(1, 15)], rel=1e-12)


def test_the_rate_after_the_assignment_s_4000_steps():
    model = FashionClassifier()
    configured = model.configure_optimizers()
    for _ in range(4000):
        configured["optimizer"].step()
        configured["lr_scheduler"]["scheduler"].step()
    assert configured["optimizer"].param_groups[0]["lr"] == pytest.approx(1.828e-4, rel=1e-3)


def test_network_optimizer_and_schedule_are_the_caller_s(tmp_path, data):
    model = FashionClassifier(
        network=lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10, bias=False)),
        optimizer=lambda params: SGD(params, lr=0.5),
        lr_scheduler=lambda optimizer: LambdaLR(optimizer, lambda step: 1 / (1 + step)),
    )
    recorder = Recorder()
    trainer(tmp_path, callbacks=[recorder]).fit(model, data)
    assert [rate for _, _, rate in recorder.steps] == pytest.approx([0.5 / (1 + step) for step in range(1, 8)])
    assert [name for name, _ in model.named_parameters()] == ["network.1.weight"]


def test_a_plain_trainer_tests_the_test_set_alone(tmp_path, data, capsys):
    [results] = trainer(tmp_path, logger=False).test(FashionClassifier(), data)
    assert set(results) == {"test/loss", "test/accuracy"}
    printed = capsys.readouterr().out
    assert printed.count("test/accuracy") == 1
    assert "DataLoader 1" not in printed


def test_a_plain_loader_is_evaluated_as_the_test_set(tmp_path):
    loader = DataLoader(TensorDataset(torch.zeros(4, 1, 28, 28), torch.tensor([0, 1, 2, 3])), batch_size=2)
    results = trainer(tmp_path, logger=False).test(FashionClassifier(), loader, verbose=False)
    assert set(results[0]) == {"test/loss", "test/accuracy"}


def test_a_checkpoint_holds_no_code_and_loads_by_itself(tmp_path, data):
    model = FashionClassifier()
    fitter = trainer(tmp_path)
    fitter.fit(model, data)
    fitter.save_checkpoint(tmp_path / "model.ckpt")
    content = torch.load(tmp_path / "model.ckpt", weights_only=True)
    assert not content.get("hyper_parameters")
    assert all(name.startswith("network.") for name in content["state_dict"])
    loaded = FashionClassifier.load_from_checkpoint(tmp_path / "model.ckpt")
    assert torch.equal(loaded.network.fc.weight, model.network.fc.weight)


class Doubled(nn.Module):
    def forward(self, images):
        return 2 * images


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def test_augmentation_and_smoothing_are_of_training_alone():
    images, labels = torch.rand(6, 1, 28, 28), torch.arange(6)
    model = FashionClassifier(network=linear, augmentation=Doubled, label_smoothing=0.3)
    expected = F.cross_entropy(linear()(2 * images), labels, label_smoothing=0.3)
    torch.testing.assert_close(model.training_step((images, labels), 0), expected)
    model.validation_step((images, labels), 0)
    plain = F.cross_entropy(linear()(images), labels)
    torch.testing.assert_close(model.val_metrics.compute()["loss"], plain)


def test_mirror_at_test_is_the_mean_over_both_images():
    images = torch.rand(6, 1, 28, 28)
    model, network = FashionClassifier(network=linear, mirror_at_test=True), linear()
    torch.testing.assert_close(model(images), network(images))  # in training
    expected = (network(images) + network(images.flip(3))) / 2
    torch.testing.assert_close(model.eval()(images), expected)


@pytest.mark.parametrize("mirror", [False, True])
def test_shift_at_test_weighs_the_image_as_much_as_its_four_shifts(mirror):
    images = torch.rand(6, 1, 28, 28)
    model, network = FashionClassifier(network=linear, mirror_at_test=mirror, shift_at_test=True), linear()
    torch.testing.assert_close(model(images), network(images))  # in training
    up, down, left, right = (torch.full_like(images, -1) for _ in range(4))
    up[..., :-1, :], down[..., 1:, :] = images[..., 1:, :], images[..., :-1, :]
    left[..., :-1], right[..., 1:] = images[..., 1:], images[..., :-1]

    def logits(view):
        return (network(view) + network(view.flip(3))) / 2 if mirror else network(view)

    expected = (4 * logits(images) + sum(map(logits, (up, down, left, right)))) / 8
    torch.testing.assert_close(model.eval()(images), expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of jsonargparse, which the commands silence
@pytest.mark.parametrize("copied", [lambda model: pickle.loads(pickle.dumps(model)), copy.deepcopy])
@pytest.mark.parametrize("flags", [None, [], ["--model.optimizer", "SGD", "--model.optimizer.lr", "0.1"]])
def test_a_copy_trains_to_the_same_bits(tmp_path, data, copied, flags):
    torch.manual_seed(0)
    model = FashionClassifier() if flags is None else build._instantiate(settings.resolve("fit", flags)).model
    twin = copied(model)
    assert (twin.optimizer is model.optimizer) == (flags is None)  # the defaults of the signature
    for one in (model, twin):
        trainer(tmp_path, logger=False, enable_checkpointing=False).fit(one, data)
    again = copied(twin)  # after a fit
    for name, weights in model.state_dict().items():
        assert torch.equal(weights, twin.state_dict()[name])
        assert torch.equal(weights, again.state_dict()[name])


def test_modules_may_be_given_instead_of_what_makes_them():
    network, augmentation = linear(), Doubled()
    model = FashionClassifier(network=network, augmentation=augmentation)
    assert (model.network, model.augmentation) == (network, augmentation)


def test_the_arguments_of_lightning_s_load_from_checkpoint(tmp_path):
    model, path = FashionClassifier(network=FashionCNN), tmp_path / "model.ckpt"
    weights = model.state_dict()
    del weights["network.fc.bias"]
    torch.save({"state_dict": weights}, path)
    load = FashionClassifier.load_from_checkpoint
    loaded = load(path, map_location=None, strict=False, weights_only=True, network=FashionCNN)
    assert torch.equal(loaded.network.fc.weight, model.network.fc.weight)
    for strict in (None, True):
        with pytest.raises(RuntimeError, match=r"Missing key.*fc\.bias"):
            load(path, strict=strict)
    with pytest.raises(ValueError, match="weights_only: expected True or None, got False: nothing"):
        load(path, weights_only=False)


def test_predictions_are_the_logits_of_the_test_images_in_the_order_of_the_file(tmp_path, data):
    model, predictor = FashionClassifier(network=linear), trainer(tmp_path, logger=False)
    logits = torch.cat(predictor.predict(model, data))
    images, _ = data.splits["test"][:]
    torch.testing.assert_close(logits, linear()((images.double() / 127.5 - 1).float()))
    floats = torch.rand(5, 1, 28, 28)
    for dataset in (floats, TensorDataset(floats, torch.arange(5))):
        torch.testing.assert_close(torch.cat(predictor.predict(model, DataLoader(dataset, 2))), linear()(floats))


@pytest.mark.parametrize("value", [-1, 1, 2.0, float("nan")])
def test_refuses_a_label_smoothing_that_cannot_be(value):
    with pytest.raises(
        ValueError, match=rf"^--model\.label_smoothing: expected 0 or more, and less than 1, got {value}$"
    ):
        FashionClassifier(label_smoothing=value)


class WithArguments(FashionClassifier):
    def __init__(self, classes: int = 10):
        super().__init__(network=lambda: FashionCNN(classes))


def test_a_subclass_with_arguments_of_its_own_is_loaded(tmp_path, data):
    fitter = trainer(tmp_path, max_steps=1)
    fitter.fit(FashionClassifier(mirror_at_test=True), data)
    fitter.save_checkpoint(tmp_path / "model.ckpt")
    assert WithArguments.load_from_checkpoint(tmp_path / "model.ckpt", classes=10).mirror_at_test
