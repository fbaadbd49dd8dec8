"""Whether probabilities are as often right as they say: pure functions of logits and labels."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import LBFGS
from torchmetrics.functional.classification import multiclass_calibration_error

BINS = 15  # of the probability, as in Guo et al.
# A prediction is uncertain if the probability of its class, with the temperature, is less. Validation images below this
# are classified correctly about as often as not: see docs/results.md.
UNCERTAIN_BELOW = 0.6
# If all images are classified correctly, the loss has no minimum: it falls the colder it gets.
COLDEST, HOTTEST = 0.1, 10.0


@torch.inference_mode(False)  # under `trainer.test` there are no gradients
def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T from `COLDEST` to `HOTTEST` with the least mean cross-entropy of logits (N, classes) / T, labels (N,).

    Guo et al., "On Calibration of Modern Neural Networks", 2017, arXiv 1706.04599. The loss is convex in 1 / T, so
    that the least within bounds is the bound next to the least of all. If the loss hardly depends on T, T is 1.
    """
    logits, labels = logits.to(torch.float64, copy=True), labels.clone()  # those of inference allow no gradients
    inverse = torch.ones((), dtype=torch.float64, requires_grad=True)
    optimizer = LBFGS([inverse], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(logits * inverse, labels)
        value.backward()
        return value

    optimizer.step(loss)
    return 1 / min(max(inverse.item(), 1 / HOTTEST), 1 / COLDEST)


def calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Expected calibration error of probabilities (N, classes), labels (N,): between 0 and 1.

    The mean difference, over the images, of accuracy and probability of the likeliest class within a bin of it.
    """
    return multiclass_calibration_error(probabilities, labels, probabilities.shape[1], n_bins=BINS).item()


def reliability(probabilities: Tensor, labels: Tensor) -> list[tuple[float, float, int]]:
    """Mean probability of the likeliest class, accuracy and number of images in each of `BINS` that has images."""
    confidence, predictions = (tensor.numpy() for tensor in probabilities.double().max(1))
    is_right = (predictions == labels.numpy()).astype(float)
    images, right, confident = (
        np.histogram(confidence, BINS, (0, 1), weights=weights)[0] for weights in (None, is_right, confidence)
    )
    return [(c / n, r / n, int(n)) for c, r, n in zip(confident, right, images, strict=True) if n]


def measure(evaluated: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, dict[str, float]]:
    """Of splits, as logits (N, classes) and labels (N,), with finite logits: `calibration_error`.

    With `val` there is a `temperature`, which is fitted on it, and `calibration_error_scaled` of logits / temperature.
    """
    finite = {split: both for split, both in evaluated.items() if both[0].isfinite().all()}
    temperature = fit_temperature(*finite["val"]) if "val" in finite else None
    measured = {}
    for split, (logits, labels) in finite.items():
        measured[split] = {"calibration_error": calibration_error(logits.softmax(1), labels)}
        if temperature:
            scaled = calibration_error((logits / temperature).softmax(1), labels)
            measured[split]["calibration_error_scaled"] = scaled
    if temperature:
        measured["val"]["temperature"] = temperature
    return measured
