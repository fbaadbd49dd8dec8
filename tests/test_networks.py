import pytest
import torch
from torch.nn import functional as F

from benchmarks.notebook import Model
from fashion_lightning.files import CLASSES
from fashion_lightning.networks import NUM_CLASSES, FashionCNN


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


@pytest.mark.parametrize("shape", [(2, 1, 29, 29), (2, 3, 28, 28), (2, 28, 28), (1, 28, 28)])
def test_refuses_images_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"expected images of shape \(B, 1, 28, 28\), got"):
        FashionCNN()(torch.zeros(shape))
