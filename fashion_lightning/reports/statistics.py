"""Statistics of paired differences, without SciPy: where it is installed, torchmetrics imports all of it."""

import functools
import itertools
import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

LEVEL = 0.95  # of the intervals of all comparisons together
POWER = 0.8


def two_sided_p(t: float, freedom: int) -> float:
    """Probability that Student's t with `freedom` degrees of freedom is at least as far from 0 as `t`.

    It is I_x(freedom / 2, 1 / 2) with x = freedom / (freedom + t^2): Abramowitz and Stegun, 26.7.1 and 26.5.27.
    """
    a, b = freedom / 2, 0.5
    x, rest = freedom / (freedom + t * t), t * t / (freedom + t * t)
    if x < (a + 1) / (a + b + 2):  # where the fraction converges fast: Numerical Recipes, 6.4
        return _incomplete_beta(a, b, x, rest)
    return 1 - _incomplete_beta(b, a, rest, x)


def _incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """Regularised, I_x(a, b), with `rest` = 1 - x: the continued fraction DLMF 8.17.22 by Lentz's method."""
    if x == 0:
        return 0.0
    fraction = above = 1.0
    below = 0.0
    for step in itertools.count(1):
        m = step // 2
        if step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        above, below = 1 + term / above, 1 / (1 + term * below)
        fraction *= above * below
        if abs(above * below - 1) < 1e-15:
            break
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    return math.exp(a * math.log(x) + b * math.log(rest) - log_beta) / (a * fraction)


@functools.cache
def t_quantile(probability: float, freedom: int) -> float:
    """What Student's t with `freedom` degrees of freedom is below with this probability, which is at least 0.5."""
    beyond = 2 * (1 - probability)
    low, high = 0.0, 1.0
    while two_sided_p(high, freedom) > beyond:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:  # until no number is between them
        low, high = (middle, high) if two_sided_p(middle, freedom) > beyond else (low, middle)
    return high


def paired_p(differences: Sequence[float]) -> float:
    """Two-sided p of Student's t test on at least two differences, which are not all equal."""
    t = fmean(differences) / (stdev(differences) / math.sqrt(len(differences)))
    return two_sided_p(t, len(differences) - 1)


def paired_interval(differences: Sequence[float], comparisons: int) -> tuple[float, float]:
    """Confidence interval of the mean difference, from at least two.

    Of so many comparisons, all intervals hold together with the probability `LEVEL`, by Bonferroni's inequality.
    """
    count = len(differences)
    quantile = t_quantile(_probability(comparisons), count - 1)
    half = quantile * stdev(differences) / math.sqrt(count)
    return fmean(differences) - half, fmean(differences) + half


def holm(p_values: Sequence[float], comparisons: int) -> list[float]:
    """Adjusted p values: Holm (1979), "A simple sequentially rejective multiple test procedure".

    Comparisons of which no p value is known count as well.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (comparisons - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def pairs_needed(deviation: float, difference: float, comparisons: int) -> int:
    """Pairs with which an interval as of `paired_interval` is beyond 0 with the probability `POWER`.

    `deviation` is the standard deviation of the differences, and `difference` their true mean, not 0. Guenther (1981),
    "Sample size formulas for normal theory t tests": what the exact power needs, or one pair less.
    """
    z = NormalDist().inv_cdf(_probability(comparisons))
    ratio = (z + NormalDist().inv_cdf(POWER)) * deviation / difference
    return math.ceil(ratio**2 + z**2 / 2)


def _probability(comparisons: int) -> float:
    """Of a value below the upper end of an interval, with Bonferroni's correction."""
    return 1 - (1 - LEVEL) / (2 * comparisons)
