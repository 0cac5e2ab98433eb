"""Figures of plans: one row for each scene, then means with intervals.

The first frame is given and therefore left out. A static plan is hard to beat in SSIM and PSNR, so every result should
be shown with the static baseline (the first frame repeated).
"""

from collections.abc import Callable, Sequence

import numpy as np
from skimage.metrics import structural_similarity

from visual_planner.checks.diagnostics import diagnose

from .colours import HUES, colour_kept, hand_positions, motion, moved_most
from .scenes import Scene
from .statistics import better_than, bootstrap, wilson

_HOLDING = ("pick", "place")
"Tasks in which the gripper holds an object."
_MOVING = ("push", *_HOLDING)
"Tasks that displace an object."


def static_plan(scene: Scene) -> np.ndarray:
    """The first frame repeated (F, h, w, 3)."""
    return np.repeat(scene.truth[:1], len(scene.truth), axis=0)


def row_of(scene: Scene, plan: np.ndarray) -> dict:
    """Everything that is measured on one plan (F, h, w, 3 uint8)."""
    truth = scene.truth
    report = diagnose(plan, truth[:1])
    row = {
        "scene": scene.id,
        "ssim": ssim(plan, truth),
        "psnr_db": float(np.mean([psnr(made, real) for made, real in zip(plan[1:], truth[1:], strict=True)])),
        "motion_ratio": motion(plan) / max(motion(truth), 1e-6),
        "checks": {check.name: check.ok for check in report.checks},
    }
    return row | _hand(scene, plan) | _asked(scene, plan) | _colour(scene, plan)


def ssim(plan: np.ndarray, truth: np.ndarray) -> float:
    """Mean structural similarity of a plan's frames (F, h, w, 3 uint8) and the true ones, the given first excluded."""
    pairs = zip(plan[1:], truth[1:], strict=True)
    return float(np.mean([structural_similarity(made, real, channel_axis=2) for made, real in pairs]))


def psnr(made: np.ndarray, real: np.ndarray) -> float:
    """Peak signal-to-noise ratio [dB] of a picture (uint8), at most 100."""
    error = np.square(made.astype(np.float64) - real).mean() / 255**2
    return float(-10 * np.log10(max(error, 1e-10)))


def _hand(scene: Scene, plan: np.ndarray) -> dict:
    if scene.record is None:
        return {}
    real, planned = hand_positions(scene.truth), hand_positions(plan)
    errors = _distances(real, planned)
    errors = errors[~np.isnan(errors)]
    if not len(errors):
        return {}
    visible, found = (~np.isnan(places[1:, 0]) for places in (real, planned))
    last = {"fde_px": float(errors[-1])} if visible[-1] else {}
    return {
        "hand_errors_px": errors.tolist(),
        "ade_px": float(errors.mean()),
        **last,
        "hand_found": [int(found[visible].sum()), int(visible.sum())],
    }


def hand_errors(truth: np.ndarray, plan: np.ndarray) -> np.ndarray:
    """Distance (F - 1,) [px] of the end effector from where it really was, in all frames but the first.

    NaN where the truth shows none. An end effector that the plan does not show counts as the static baseline's error.

    Args:
        truth: (F, h, w, 3) uint8.
        plan: the same.
    """
    return _distances(hand_positions(truth), hand_positions(plan))


def _distances(real: np.ndarray, planned: np.ndarray) -> np.ndarray:
    """Distances as in `hand_errors`, from positions (F, 2) [px] that are NaN where there is no end effector."""
    found = ~np.isnan(planned[1:, :1])
    return np.linalg.norm(np.where(found, planned[1:], real[0]) - real[1:], axis=1)


def pooled_median(of_scene: Sequence[np.ndarray]) -> tuple[float, tuple[float, float]]:
    """Median of all scenes' values, and its interval; scenes are resampled whole, since their values fail together.

    Args:
        of_scene: values of each scene, any number of them.
    """
    interval = bootstrap(
        np.arange(len(of_scene)), lambda drawn: np.median(np.concatenate([of_scene[scene] for scene in drawn]))
    )
    return float(np.median(np.concatenate(of_scene))), interval


def _requested(scene: Scene, tasks: Sequence[str]) -> tuple[str, list[str]] | None:
    """Colours of the requested object and of all objects, if the record has them and the task is one of `tasks`."""
    record = scene.record or {}
    colors = [item["color"] for item in record.get("objects") or ()]
    colour = (record.get("target") or "").partition(" ")[0]
    known = colour in colors and all(name in HUES for name in colors)
    return (colour, colors) if known and record.get("task") in tasks else None


def _asked(scene: Scene, plan: np.ndarray) -> dict:
    found = _requested(scene, _MOVING)
    return {} if found is None else {"moved_asked": moved_most(plan, found[1]) == found[0]}


def _colour(scene: Scene, plan: np.ndarray) -> dict:
    found = _requested(scene, _HOLDING)
    told = None if found is None else colour_kept(plan, scene.truth, *found)
    return {} if told is None else {"colour": told}


def summary(rows: Sequence[dict], static: Sequence[dict]) -> dict:
    """Figures over scenes, each with a 95% interval; `rows` and `static` must be of the same scenes."""
    result = {
        "scenes": len(rows),
        "ssim": _mean(rows, "ssim"),
        "psnr_db": _mean(rows, "psnr_db"),
        "ssim_above_static_p": better_than(_values(rows, "ssim"), _values(static, "ssim")),
        "psnr_above_static_p": better_than(_values(rows, "psnr_db"), _values(static, "psnr_db")),
        "motion_ratio": _mean(rows, "motion_ratio", np.median),
        "checks_passed": _rate([all(row["checks"].values()) for row in rows]),
        "checks_failed": {
            name: sum(not row["checks"][name] for row in rows) for name in (rows[0]["checks"] if rows else ())
        },
    }
    if any("lpips_alex" in row for row in rows):
        result["lpips_alex"] = _mean(rows, "lpips_alex")
    seen = [row for row in rows if "ade_px" in row]
    if seen:
        of_scene = [np.asarray(row["hand_errors_px"], float) for row in seen]
        median, interval = pooled_median(of_scene)
        found = np.sum([row["hand_found"] for row in seen], axis=0)
        result["end_effector_ade_px"] = _mean(seen, "ade_px")
        result["end_effector_fde_px"] = _mean(seen, "fde_px")
        result["hand_error_px"] = {
            "median": median,
            "mean": float(np.concatenate(of_scene).mean()),
            "interval_of_median": interval,
        }
        result["hand_found"] = float(found[0] / found[1])
    result["moved_most"] = _rate([row["moved_asked"] for row in rows if "moved_asked" in row])
    if held := [row["colour"]["kept"] for row in rows if "colour" in row]:
        result["colour_kept"] = _rate(held)
    return result


def _values(rows: Sequence[dict], key: str) -> np.ndarray:
    return np.array([row[key] for row in rows if key in row])


def _mean(rows: Sequence[dict], key: str, statistic: Callable = np.mean) -> dict:
    values = _values(rows, key)
    return {"value": float(statistic(values)), "interval": bootstrap(values, statistic)} if len(values) else {}


def _rate(outcomes: Sequence[bool]) -> dict:
    """Successes of a yes-or-no figure, with Wilson's interval."""
    n, successes = len(outcomes), int(sum(outcomes))
    return {"successes": successes, "n": n, "rate": successes / max(1, n), "interval": wilson(successes, n)}


def table(result: dict) -> str:
    """The figures of all plans and baselines as a text table."""
    lines = [
        f"{'':20}{'PSNR dB':>9}{'SSIM':>7}{'motion':>8}{'ADE px':>8}{'FDE px':>8}{'gripper px median':>16}{'found':>7}"
        f"{'moved most':>13}{'checks':>9}{'colour kept':>13}"
    ]
    for name, row in result.items():
        if not isinstance(row, dict) or "psnr_db" not in row:
            continue
        moved, checks = row["moved_most"], row["checks_passed"]
        text = f"{name:20}{row['psnr_db']['value']:9.2f}{row['ssim']['value']:7.3f}{row['motion_ratio']['value']:8.2f}"
        if "hand_found" in row:
            last = row["end_effector_fde_px"].get("value", float("nan"))
            text += f"{row['end_effector_ade_px']['value']:8.2f}{last:8.2f}{row['hand_error_px']['median']:16.2f}"
            text += f"{row['hand_found']:7.0%}"
        else:
            text += f"{'-':>8}{'-':>8}{'-':>16}{'-':>7}"
        text += f"{moved['successes']:7d}/{moved['n']:<3d}{moved['rate']:.0%}".rjust(13) + f"{checks['rate']:9.0%}"
        kept = row.get("colour_kept")
        text += f"{'-':>13}" if kept is None else f"{kept['successes']:7d}/{kept['n']:<3d}{kept['rate']:.0%}".rjust(13)
        extra = [f"{key} {row[key]['value']:.4f}" for key in ("lpips_alex", "fvd_i3d") if row.get(key)]
        lines.append("  ".join([text, *extra]))
    return "\n".join(lines)
