import pytest
import torch
from torch.optim import SGD

from fashion_lightning.schedules import RiseAndFall


def rates(steps, **kwargs):
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = RiseAndFall(optimizer, **kwargs)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_a_hand_count():
    assert rates(7, total_steps=5, rise=0.4) == pytest.approx([1.0, 2.0, 2.0, 4 / 3, 2 / 3, 0.0, 0.0])


@pytest.mark.parametrize("rise", [0.0, 0.2, 1.0])
def test_reaches_the_rate_and_ends_at_zero(rise):
    seen = rates(51, total_steps=50, rise=rise)
    assert max(seen) == pytest.approx(2.0)
    assert min(seen[:50]) > 0
    assert seen[50] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"total_steps": 0}, r"RiseAndFall\.total_steps: expected 1 or more, got 0"),
        ({"total_steps": 5, "rise": -0.1}, r"RiseAndFall\.rise: expected 0 to 1, got -0\.1"),
        ({"total_steps": 5, "rise": 1.5}, r"RiseAndFall\.rise: expected 0 to 1, got 1\.5"),
    ],
)
def test_refuses_what_cannot_be(settings, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        rates(1, **settings)
