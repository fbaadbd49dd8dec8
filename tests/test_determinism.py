"""training/determinism.py: a network that a device cannot train deterministically is trained, and it is said."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.plugins import Precision
from torch.nn import functional as F

from fashion_lightning import fit
from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.command_line import checks
from fashion_lightning.networks import FashionCNN
from fashion_lightning.training import determinism


class Unrepeatable(torch.autograd.Function):
    """Its gradient takes an operation that PyTorch refuses in deterministic mode, as MPS refuses that of a max pool."""

    @staticmethod
    def forward(ctx, logits):
        return logits.clone()

    @staticmethod
    def backward(ctx, gradient):
        return torch.zeros_like(gradient).put_(torch.arange(gradient.numel()), gradient)


class Network(FashionCNN):
    def forward(self, images):
        return Unrepeatable.apply(super().forward(F.dropout(images, 0.2, self.training)))


class Drawing(FashionCNN):
    def forward(self, images):
        return super().forward(images + torch.rand(()))  # in evaluation too


def weights(version: int) -> dict[str, torch.Tensor]:
    path = Path("lightning_logs", f"version_{version}", "checkpoints", "last.ckpt")
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.mark.filterwarnings("default")  # as for a user
def test_what_is_not_deterministic_on_a_device_is_said_once_and_trained(tiny_args, monkeypatch, capsys):
    args = [*tiny_args, "--model.network", f"{__name__}.Network"]
    with pytest.raises(RuntimeError, match="put_ does not have a deterministic implementation"):
        fit.main(args)
    fit.main([*args, "--trainer.deterministic", "false"])
    assert capsys.readouterr().err == ""

    monkeypatch.setattr(determinism, "EXACT", ())
    fit.main(args)
    assert capsys.readouterr().err == (
        "warning: put_ has no deterministic version on cpu: two runs may differ in their last bits, "
        "and so may a resumed one\n"
    )
    without, with_trial = weights(0), weights(1)
    assert all(torch.equal(without[name], with_trial[name]) for name in without)


def test_the_check_of_a_network_leaves_gpus_alone_and_draws_nothing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state", None)
    trainer = SimpleNamespace(precision_plugin=Precision())
    model = FashionClassifier(network=Drawing)
    before = torch.get_rng_state()
    checks._check_network(trainer, model)
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_is_said_where_all_is_deterministic(tiny_args, monkeypatch, capsys):
    monkeypatch.setattr(determinism, "EXACT", ())
    fit.main([*tiny_args, "--trainer.max_steps", "1"])
    assert capsys.readouterr().err == ""
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
