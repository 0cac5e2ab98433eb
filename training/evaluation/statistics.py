"""Intervals and tests that accompany every figure."""

import numpy as np
from scipy.stats import binomtest, wilcoxon


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95% interval of a success rate (Wilson 1927); (0, 1) if nothing was tried."""
    if n == 0:
        return 0.0, 1.0
    interval = binomtest(successes, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap(values: np.ndarray, statistic=np.mean, rounds: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95% percentile bootstrap interval of a statistic over scenes."""
    values = np.asarray(values)
    draws = np.random.default_rng(seed)
    # one draw in memory at a time: together they would take 16 kB per scene
    results = [statistic(values[draws.integers(len(values), size=len(values))]) for _ in range(rounds)]
    return float(np.nanpercentile(results, 2.5)), float(np.nanpercentile(results, 97.5))


def better_than(values: np.ndarray, baseline: np.ndarray) -> float:
    """One-sided p value of the paired Wilcoxon signed-rank test for larger `values`."""
    difference = np.asarray(values) - np.asarray(baseline)
    return float(wilcoxon(difference, alternative="greater").pvalue) if np.any(difference) else 1.0
