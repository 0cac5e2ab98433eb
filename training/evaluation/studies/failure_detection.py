"""Do the checks of a plan's pictures predict that its execution fails? Precision, recall, AUC and best thresholds."""

from pathlib import Path

import numpy as np
from pydantic import Field

from visual_planner.checks.diagnostics import RULES

from ...errors import TrainingError
from ...files import as_record, read_json
from ...sections.data import Positive
from ..charts import GREY, INK, figure
from ..closed_loop.evaluation import plan_and_execute
from ..statistics import wilson
from .base import Study, StudySettings, bench, markdown_table, method_lines

VANISHED = 0.35
"An object has vanished if less than this fraction of its initial pixels is left in the last frame."
_ROUNDS = 1000


PARTS = {"path": "path as read", "sure": "sure", "least sure": "least sure", "gripper": "gripper"}
"Parts of the score, by their name on the page (a check is called path as well)."


class FailureSettings(StudySettings):
    """Settings of this study."""

    plans: Positive = Field(1, description="plans per scene; every one is executed and counts")
    closed_loop_file: Path | None = Field(
        None,
        description="file of `evaluate --closed-loop --json`: its plans and settings, instead of new plans",
    )


def measure(settings: FailureSettings, out: Path) -> dict:
    """Execute plans and compare the outcome with the checks.

    Raises:
        TrainingError: all plans fail or all succeed, so that nothing can be predicted.
    """
    if settings.closed_loop_file is not None:
        made = read_json(settings.closed_loop_file, "results of a closed loop")
        with as_record(f"results of a closed loop {settings.closed_loop_file}"):
            rows = [row for mode, done in made["plans"].items() for row in seen_and_done(done, mode)]
            told = ("modes", "first_seed", "scenes", "wordings", "camera_jitter_m")
            its = {"planner": made["planner"], **{name: made["settings"][name] for name in told}}
        return {"settings": {**settings.model_dump(mode="json"), **its}, "rows": rows, "checks": analyse(rows)}
    rows = []
    with bench(settings) as b:
        for mode in settings.modes:
            loop = settings.closed_loop(best_of=settings.plans)
            rows += seen_and_done(plan_and_execute(b.planner, b.asked, mode, b.world, b.net, loop), mode)
    return {"rows": rows, "checks": analyse(rows)}


def seen_and_done(done: list[dict], mode: str) -> list[dict]:
    """One row per plan of `plan_and_execute`: what was seen in its frames, and whether it failed."""
    return [
        {
            "seed": row["seed"], "mode": mode, "task": row["task"], "failed": not plan["success"],
            "values": {
                **plan["checks"], "vanished": plan["objects_left"],
                **{shown: plan["parts"][part] for part, shown in PARTS.items() if part in plan["parts"]},
                "score": plan["score"],
            },
        }
        for row in done
        for plan in row["plans"]
    ]  # fmt: skip


def analyse(rows: list[dict]) -> dict:
    """Figures of every check, over the plans that have it.

    A check is right if it warns of a plan that fails. AUC is the probability that a failing plan has a worse value than
    a working one (Mann and Whitney, 1947). The threshold from data is that with the largest sum of sensitivity and
    specificity (Youden, 1950) on one half of the scenes; its precision and recall are those of the other half.
    """
    if len({row["failed"] for row in rows}) < 2:
        raise TrainingError(
            f"of {len(rows)} plans all {'fail' if rows[0]['failed'] else 'succeed'}: nothing to predict"
        )
    result = {}
    for name in dict.fromkeys(name for row in rows for name in row["values"]):
        having = [row for row in rows if name in row["values"]]
        failed = np.array([row["failed"] for row in having])
        values = np.array([row["values"][name] for row in having], float)
        bad_is_low = RULES[name].bound == "at least" if name in RULES else True
        badness = -values if bad_is_low else values
        known = RULES[name].threshold if name in RULES else VANISHED if name == "vanished" else None
        fit = np.array([row["seed"] % 2 == 0 for row in having])
        best = youden(badness[fit], failed[fit])
        low, high = _interval(badness, failed)
        result[name] = {
            "plans": len(having), "failed": int(failed.sum()), "auc": auc(badness, failed), "auc_low": low,
            "auc_high": high, "bad_is": "low" if bad_is_low else "high",
            "shipped": None if known is None else _verdict(badness, failed, -known if bad_is_low else known),
            "shipped_threshold": known,
            "from_data": _verdict(badness[~fit], failed[~fit], best),
            "threshold_from_data": float(-best if bad_is_low else best),
        }  # fmt: skip
    return result


def auc(badness: np.ndarray, failed: np.ndarray) -> float:
    """Probability that a failing plan is worse than a working one, ties counted half; NaN unless there are both."""
    bad, good = badness[failed], badness[~failed]
    if not len(bad) or not len(good):
        return float("nan")
    difference = bad[:, None] - good[None]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def youden(badness: np.ndarray, failed: np.ndarray) -> float:
    """Threshold above which plans are classified as bad, by Youden's index."""
    candidates = np.unique(badness)
    middles = np.concatenate([candidates[:1] - 1e-9, (candidates[1:] + candidates[:-1]) / 2])
    gains = [
        (badness > m)[failed].mean() - (badness > m)[~failed].mean() if 0 < failed.sum() < len(failed) else 0.0
        for m in middles
    ]
    return float(middles[int(np.argmax(gains))])


def _verdict(badness: np.ndarray, failed: np.ndarray, threshold: float) -> dict:
    warned = badness > threshold
    hits = int((warned & failed).sum())
    precision, recall = (hits, int(warned.sum())), (hits, int(failed.sum()))
    return {
        name: {"successes": k, "n": n, "rate": k / n if n else None, "interval": wilson(k, n)}
        for name, (k, n) in (("precision", precision), ("recall", recall))
    }


def _interval(badness: np.ndarray, failed: np.ndarray) -> tuple[float, float]:
    draws = np.random.default_rng(0).integers(len(failed), size=(_ROUNDS, len(failed)))
    values = [auc(badness[draw], failed[draw]) for draw in draws]
    return float(np.nanpercentile(values, 2.5)), float(np.nanpercentile(values, 97.5))


def plot(result: dict):
    """AUC of every check with its interval."""
    made, (axis,) = figure(7.0, 0.5 * len(result["checks"]) + 1.4)
    for place, row in enumerate(reversed(result["checks"].values())):
        axis.hlines(place, row["auc_low"], row["auc_high"], color=GREY, linewidth=3)
        axis.plot(row["auc"], place, "o", color=INK)
    axis.axvline(0.5, color=GREY, linestyle=":")
    axis.set_yticks(range(len(result["checks"])), list(reversed(result["checks"])))
    axis.set_xlim(0, 1)
    axis.set_xlabel("AUC: how often a failing plan looks worse than a successful one (0.5: chance)")
    return made


def answer(checks: dict[str, dict]) -> str:
    """Which checks predict a failure, as far as the intervals of their AUC tell."""
    good = sorted((name for name, row in checks.items() if row["auc_low"] > 0.5), key=lambda name: -checks[name]["auc"])
    rest = ", ".join(name for name in checks if name not in good)
    if not good:
        return f"**Answer:** of no check could it be told that it predicts a failure ({rest})."
    told = ", ".join(f"*{name}* ({checks[name]['auc']:.2f})" for name in good)
    return f"**Answer:** a failure is predicted, best first, by {told}" + (
        f"; of the others it cannot be told ({rest})." if rest else "."
    )


def page(result: dict) -> str:
    """The study's page."""

    def cell(verdict: dict | None, name: str) -> str:
        if verdict is None or verdict[name]["rate"] is None:
            return "no warning" if verdict is not None else "-"
        return f"{verdict[name]['rate']:.0%} ({verdict[name]['successes']}/{verdict[name]['n']})"

    rows = [
        [name, f"{row['auc']:.2f} ({row['auc_low']:.2f} to {row['auc_high']:.2f})", str(row["plans"]),
         cell(row["shipped"], "precision"), cell(row["shipped"], "recall"), f"{row['threshold_from_data']:.3g}",
         cell(row["from_data"], "precision"), cell(row["from_data"], "recall")]
        for name, row in result["checks"].items()
    ]  # fmt: skip
    head = ["check", "AUC (95%)", "plans", "precision", "recall", "threshold from data", "its precision", "its recall"]
    failed = sum(row["failed"] for row in result["rows"])
    return f"""# Failure detection: do a plan's frames predict that it fails?

{answer(result["checks"])}

![AUC of the checks](PLOT)

{len(result["rows"])} plans were executed, {failed} failed. A warning is correct if the plan fails.

{markdown_table(head, rows)}

## Method
{method_lines(result["settings"])}
From the frames: *vanished*, of the object that shrinks most, the fraction of its first-frame pixels left in the last
frame. From the read-out: *sure* and *least sure*, the mean and the lowest confidence in the position; *gripper*, how
clearly it is open or closed; *path as read*, how closely the end effector keeps to the drawn path; *score*, their
mean, by which *Rank Plans* orders. Precision: fraction of warnings whose plan fails; recall: fraction of failing
plans with a warning. The threshold from data maximises Youden's index on scenes with even seeds; its precision and
recall are measured on odd seeds.

## Limits
One planner, one simulated table. Compare a precision with the fraction of failing plans, {
        failed / len(result["rows"]):.0%} here.
"""


STUDY = Study(FailureSettings, measure, plot, page)
