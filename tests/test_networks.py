import functools
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.notebook import Model
from fashion_lightning.data.labels import CLASSES
from fashion_lightning.networks import NUM_CLASSES, FashionCNN, PatchWhitening, ResidualCNN, WhitenedCNN


def seeded(network, **kwargs):
    torch.manual_seed(0)
    return network(**kwargs)


def test_has_the_notebook_s_parameters_from_the_same_seed():
    ours, notebook = seeded(FashionCNN).state_dict(), seeded(Model).state_dict()
    assert list(ours) == list(notebook)
    assert all(torch.equal(ours[name], notebook[name]) for name in ours)
    assert sum(p.numel() for p in FashionCNN().parameters()) == 62058
    assert len(CLASSES) == NUM_CLASSES


@pytest.mark.parametrize("training", [True, False])
def test_is_the_notebook_s_function_with_its_gradients(training):
    torch.manual_seed(1)
    images, labels = torch.rand(13, 1, 28, 28) * 2 - 1, torch.randint(10, (13,))
    notebook = seeded(Model)
    notebook(torch.rand(50, 1, 28, 28))  # so that the running statistics are not the initial ones
    ours = FashionCNN()
    ours.load_state_dict(notebook.state_dict(), strict=True)
    outcomes = []
    for network in (ours.train(training), notebook.train(training)):
        logits = network(images)
        F.cross_entropy(logits, labels).backward()
        outcomes.append([logits, *(p.grad for p in network.parameters()), *network.buffers()])
    for actual, expected in zip(*outcomes, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("num_classes", [10, 3])
def test_gives_logits_for_any_number_of_images(count, num_classes):
    network = FashionCNN(num_classes).eval()
    assert network(torch.zeros(count, 1, 28, 28)).shape == (count, num_classes)


@pytest.mark.parametrize("network", [FashionCNN, WhitenedCNN, ResidualCNN])
@pytest.mark.parametrize("shape", [(2, 1, 29, 29), (2, 3, 28, 28), (2, 28, 28), (1, 28, 28)])
def test_refuses_images_of_another_shape(shape, network):
    with pytest.raises(ValueError, match=r"expected images of shape \(B, 1, 28, 28\), got"):
        network()(torch.zeros(shape))


@pytest.fixture
def whitened():
    torch.manual_seed(0)
    return WhitenedCNN(widths=(12, 8))


def test_whitening_takes_the_correlations_away():
    torch.manual_seed(0)
    images = F.avg_pool2d(torch.randn(200, 1, 30, 30), 3, stride=1)  # so that neighbours are alike
    whitening = PatchWhitening(components=5)
    whitening.learn_from(images)
    outputs = whitening(images)
    assert outputs.shape == (200, 10, 28, 28)
    inner = outputs[:, :5, 1:-1, 1:-1].transpose(0, 1).flatten(1)  # patches that lie on the images
    patches = F.unfold(images, 3).transpose(0, 1).flatten(1)
    variances = torch.from_numpy(np.linalg.eigvalsh(np.cov(patches.numpy()))[::-1][:5].copy())
    torch.testing.assert_close(torch.cov(inner), torch.diag(variances / (variances + 5e-4)).float(), rtol=0, atol=1e-4)
    torch.testing.assert_close(outputs[:, 5:], -outputs[:, :5])


def test_whitening_looks_at_the_first_training_batch_alone(whitened):
    first, second = torch.rand(20, 1, 28, 28), torch.rand(20, 1, 28, 28) ** 3
    whitened.eval()(first)
    assert not whitened.whitening.filters.any()
    whitened.train()(first)
    learned = whitened.whitening.filters.clone()
    assert learned.any()
    whitened(second)
    assert torch.equal(whitened.whitening.filters, learned)
    loaded = WhitenedCNN(widths=(12, 8))
    loaded.load_state_dict(whitened.state_dict())
    loaded.train()(second)
    assert torch.equal(loaded.whitening.filters, learned)
    assert "whitening.filters" not in dict(whitened.named_parameters())


def test_whitening_is_in_full_precision_under_autocast():
    images = torch.rand(50, 1, 28, 28)
    exact, mixed = PatchWhitening(), PatchWhitening()
    exact.learn_from(images)
    with torch.autocast("cpu", torch.bfloat16):
        mixed.learn_from(images)
        assert mixed(images).dtype == torch.bfloat16
    assert torch.equal(mixed.filters, exact.filters)


def whiten(rank: int, folder: Path) -> None:
    """What a process of two uses in its first step, for images of its own."""
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    whitening = PatchWhitening()
    whitening.learn_from(torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(rank)))
    torch.save(whitening.filters, folder / f"filters{rank}")
    torch.distributed.destroy_process_group()


def test_processes_whiten_alike_from_the_first_step(tmp_path):
    ranks = [forked.CONTEXT.Process(target=whiten, args=(rank, tmp_path)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    assert [forked.wait(rank) for rank in ranks] == [0, 0]
    first, second = (torch.load(tmp_path / f"filters{rank}") for rank in range(2))
    assert torch.equal(first, second)
    alone = PatchWhitening()
    alone.learn_from(torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(first, alone.filters)


@pytest.mark.parametrize("make", [WhitenedCNN, functools.partial(ResidualCNN, widths=(4, 8), whitening=True)])
def test_one_graph_for_a_new_network_and_for_a_resumed_one(make):
    """Or a compiled one would not resume to the same bits."""
    images = torch.rand(4, 1, 28, 28)

    def graphs(network: nn.Module) -> list[str]:
        found = []

        def backend(module: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
            found.append(module.print_readable(print_output=False))
            return module.forward

        torch.compiler.reset()
        network.compile(backend=backend, dynamic=False)
        for _ in range(2):
            network.train()(images)
        return found

    new, resumed = make(), make()
    of_new = graphs(new)
    resumed.load_state_dict(new.state_dict())
    assert len(of_new) == 1
    assert graphs(resumed) == of_new


def test_the_whitened_network_counts_and_shapes(whitened):
    assert whitened.eval()(torch.zeros(3, 1, 28, 28)).shape == (3, 10)
    convolutions, norms, head = 9 * (16 * 12 + 12 * 8), 2 * (12 + 8), 10 * (8 * 3 * 3 + 1)
    assert sum(p.numel() for p in whitened.parameters()) == convolutions + norms + head


@pytest.mark.parametrize(
    ("widths", "whitening", "channels"),
    [((8,), False, (1, 8)), ((8, 9, 10, 11), False, (1, 8, 9, 10, 11)), ((8, 9, 10), True, (16, 8, 9, 10))],
)
def test_the_residual_network_counts_and_shapes(widths, whitening, channels):
    network = ResidualCNN(widths, whitening=whitening)
    assert network(torch.rand(20, 1, 28, 28)).shape == (20, 10)
    stages = sum(9 * (before * width + 2 * width * width) + 3 * 2 * width for before, width in pairwise(channels))
    assert sum(p.numel() for p in network.parameters()) == stages + 10 * (widths[-1] + 1)


def test_the_residual_network_adds_what_its_pairs_give():
    torch.manual_seed(0)
    network, images = ResidualCNN(widths=(8, 12)).eval(), torch.rand(20, 1, 28, 28)
    x = images
    for first, side in ((0, 2), (3, 14)):
        convolution, (one, other) = network.layers[first], network.layers[first + 1]
        x = convolution(x)
        x = F.max_pool2d(x + other(one(x)), side)
    torch.testing.assert_close(network(images), network.layers[-1](x.flatten(1)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FashionCNN(num_classes=0), r"FashionCNN\.num_classes: expected 1 or more, got 0"),
        (lambda: PatchWhitening(components=0), r"PatchWhitening\.components: expected 1 to 9, got 0"),
        (lambda: PatchWhitening(components=10), r"PatchWhitening\.components: expected 1 to 9, got 10"),
        (lambda: WhitenedCNN(widths=(8,)), r"WhitenedCNN\.widths: expected 2 numbers, each 1 or more, got \(8,\)"),
        (lambda: WhitenedCNN(widths=(8, 0)), r"WhitenedCNN\.widths: .*, got \(8, 0\)"),
        (lambda: ResidualCNN(widths=()), r"ResidualCNN\.widths: expected 1 to 4 numbers, each 1 or more, got \(\)"),
        (lambda: ResidualCNN(widths=(8, -1)), r"ResidualCNN\.widths: .*, got \(8, -1\)"),
        (lambda: ResidualCNN(widths=(8,) * 5), r"ResidualCNN\.widths: .*, got \(8, 8, 8, 8, 8\)"),
    ],
)
def test_refuses_what_cannot_be(make, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()
