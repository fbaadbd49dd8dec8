"""The promise of a verdict: its formulae are those of SciPy and statsmodels, and of two equals one is seldom better."""

import itertools
import math
import random
from pathlib import Path

import numpy as np
import pytest

from fashion_lightning.reports import statistics
from fashion_lightning.reports.differences import Verdict, compare
from fashion_lightning.reports.differences_notes import LOOKING_EARLY
from fashion_lightning.storage.cells import Cell

# Student (1908), additional hours of sleep of ten patients, as printed in R's help page of `sleep`.
SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]


def draws(count: int) -> list[float]:
    rng = random.Random(count)
    return [rng.gauss(0.1, 1) for _ in range(count)]


def test_quantiles_and_p_are_those_of_printed_tables():
    printed = {
        0.975: {1: "12.706", 2: "4.303", 4: "2.776", 9: "2.262", 30: "2.042"},
        0.995: {1: "63.657", 4: "4.604", 120: "2.617"},
        0.9995: {1: "636.619", 4: "8.610"},
        0.5: {3: "0.000"},
    }
    for probability, quantiles in printed.items():
        for freedom, text in quantiles.items():
            quantile = statistics.t_quantile(probability, freedom)
            assert f"{quantile:.3f}" == text
            assert statistics.two_sided_p(quantile, freedom) == pytest.approx(2 * (1 - probability), rel=1e-12)


def test_student_s_own_example():
    low, high = statistics.paired_interval(SLEEP, 1)
    assert (low, high) == (pytest.approx(0.7001142, abs=5e-8), pytest.approx(2.4598858, abs=5e-8))
    assert statistics.paired_p(SLEEP) == pytest.approx(0.002833, abs=5e-7)


def test_holm_s_example():
    """0.005, 0.01, 0.03 and 0.04 times 4, 3, 2 and 1, and never less than the one before."""
    assert statistics.holm([0.01, 0.04, 0.03, 0.005], 4) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.01, 0.6], 5) == pytest.approx([0.05, 1])
    assert statistics.holm([], 3) == []


def test_pairs_needed_are_those_of_printed_tables():
    """Cohen's small, medium and large effect, 80 % power: G*Power's table has 199, 34 and 15."""
    assert [statistics.pairs_needed(1, effect, 1) for effect in (0.2, 0.5, 0.8)] == [199, 34, 15]
    assert statistics.pairs_needed(1, -0.5, 1) == 34


def test_p_and_simultaneous_intervals_are_scipy_s():
    scipy = pytest.importorskip("scipy.stats", exc_type=ImportError)
    for pairs in range(2, 21):
        values = draws(pairs)
        reference = scipy.ttest_rel(values, [0.0] * pairs)
        assert statistics.paired_p(values) == pytest.approx(reference.pvalue, rel=1e-11)
        for comparisons in range(1, 10):
            interval = reference.confidence_interval(1 - 0.05 / comparisons)
            found = statistics.paired_interval(values, comparisons)
            assert found == pytest.approx((interval.low, interval.high), rel=1e-11, abs=1e-11)


def test_p_is_scipy_s_far_from_zero_too():
    scipy = pytest.importorskip("scipy.stats", exc_type=ImportError)
    for freedom in (*range(1, 60), 500):
        for t in (0, 0.001, 0.5, 1, 2, 5, -20, 300):
            assert statistics.two_sided_p(t, freedom) == pytest.approx(2 * scipy.t.sf(abs(t), freedom), rel=1e-11)


def test_holm_is_that_of_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest", exc_type=ImportError)
    for comparisons in range(1, 10):
        p_values = [abs(draw) / 20 for draw in draws(comparisons)]
        adjusted = multitest.multipletests(p_values, method="holm")[1]
        assert statistics.holm(p_values, comparisons) == pytest.approx(adjusted.tolist(), rel=1e-12)


def test_pairs_needed_are_those_of_the_exact_power_or_one_less():
    power = pytest.importorskip("statsmodels.stats.power", exc_type=ImportError).TTestPower()
    for comparisons in range(1, 10):
        for effect in (0.15, 0.3, 0.5, 0.8, 1.2):
            exact = power.solve_power(effect, alpha=0.05 / comparisons, power=0.8)
            assert math.ceil(exact) - statistics.pairs_needed(1, effect, comparisons) in (0, 1)


@pytest.mark.parametrize("variants", [1, 5])
def test_of_equal_variants_one_in_twenty_studies_has_a_verdict(variants):
    rng, wrong, names = random.Random(0), 0, ["baseline", *map(str, range(variants))]
    for _ in range(2000):
        places = itertools.product(names, range(5))
        cells = [Cell(*place, Path(), "finished", val_accuracy=rng.gauss(0.92, 0.001)) for place in places]
        wrong += any(row.verdict in (Verdict.BETTER, Verdict.WORSE) for row in compare(cells, 0.1))
    assert wrong / 2000 == pytest.approx(0.05, abs=0.015)


def test_looking_early_is_wrong_as_often_as_the_note_says():
    values = np.random.default_rng(0).standard_normal((50_000, 10))
    found = np.zeros(len(values), bool)
    for count in range(3, 11):
        seen = values[:, :count]
        t = seen.mean(1) / seen.std(1, ddof=1) * count**0.5
        found |= abs(t) > statistics.t_quantile(0.975, count - 1)
    assert found.mean() == pytest.approx(LOOKING_EARLY, abs=0.005)  # three standard errors
