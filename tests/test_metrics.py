import torch
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from fashion_lightning.training.metrics import SplitMetrics


def test_a_tally_is_what_torchmetrics_says_of_ragged_batches():
    torch.manual_seed(0)
    logits, labels = torch.randn(130, 10), torch.randint(10, (130,))
    losses = F.cross_entropy(logits, labels, reduction="none")
    tally, loss, accuracy = (
        SplitMetrics().set_dtype(torch.float64),
        MeanMetric(),
        MulticlassAccuracy(10, average="micro"),
    )
    for part in torch.arange(130).split(60):
        tally.update(losses[part], logits[part], labels[part])
        loss.update(losses[part])
        accuracy.update(logits[part], labels[part])
    counted = tally.compute()
    assert counted["images"] == 130
    assert counted["accuracy"].float() == accuracy.compute()
    torch.testing.assert_close(counted["loss"].float(), loss.compute())


def test_sums_stay_exact_whatever_the_precision_of_the_network():
    module = torch.nn.ModuleList([SplitMetrics().set_dtype(torch.float64)])
    module.to(torch.bfloat16)  # counts to 256
    module[0].update(torch.ones(301), torch.zeros(301, 10), torch.zeros(301, dtype=torch.int64))
    module.half()
    assert [value.item() for value in module[0].compute().values()] == [1, 1, 301]
    assert module.to("meta")[0].images.device.type == "meta"


def test_a_nan_shows_in_the_mean():
    tally = SplitMetrics()
    tally.update(torch.tensor([1.0, torch.nan]), torch.zeros(2, 10), torch.zeros(2, dtype=torch.int64))
    assert tally.compute()["loss"].isnan()
