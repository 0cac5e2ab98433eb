"""Is a grid a better plan than a video, or than no pictures? Executes three planners in the same scenes."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from visual_planner.grid.frame import to_bytes

from ...model.pipeline import lora_of
from ...model.sampling import draw_noise
from ...planner.baselines.cloning_model import CloningPolicy, open_cloning
from ...planner.baselines.video_model import VideoPlanner, open_video
from ...planner.baselines.weights import CLONING, VIDEO, effort_of_run, require_baseline
from ...sections.data import Positive
from ..charts import GOOD, GREY, SERIES, bars, figure, packed, strips
from ..closed_loop.planning import make_plans
from ..closed_loop.rates import difference, one_rate, rate
from ..closed_loop.requests import Asked, planner_input
from ..closed_loop.trial import carry_out, execute_plan, judge_plan
from ..colours import motion
from ..figures import psnr, ssim
from ..perceptual.distances import Perceptual
from ..statistics import bootstrap
from .base import Bench, Study, StudySettings, bench, change_cell, markdown_table, method_lines, rate_cell

MODE = "text"
Frames = list[np.ndarray]
COLOURS = {"grid": SERIES["text"], "video": SERIES["trajectory"], "cloning": GOOD}
NAMES = {"grid": "grid planner", "video": "video diffusion", "cloning": "behaviour cloning"}


class ComparisonSettings(StudySettings):
    """Settings of this study."""

    modes: tuple[Literal["text"]] = Field((MODE,), description="the one mode in which all three can plan")
    video: Path = Field(description="weights of the video-diffusion planner, written by training video_baseline")
    cloning: Path = Field(description="weights of the policy, written by training cloning_baseline")
    steps: tuple[Positive, ...] = Field((2, 8), min_length=1, description="steps of the grid planner's sampler")
    video_steps: tuple[Positive, ...] = Field((2, 8, 20), min_length=1, description="steps of the video's sampler")
    video_cfg: Annotated[float, Field(ge=1)] = Field(1.0, description="classifier-free guidance of the video planner")
    lora_run: Path | None = Field(None, description="run of the planner LoRA, from which its hours are read")
    fvd: Path | None = Field(None, description="safetensors file of I3D's weights (docs/training.md), for FVD")
    pictured: Positive = Field(2, description="scenes whose plans are shown, the first ones")


def measure(settings: ComparisonSettings, out: Path) -> dict:
    """Success, similarity and CPU seconds of each planner in the same scenes, with bounds and training effort."""
    require_baseline(settings.video, VIDEO)
    require_baseline(settings.cloning, CLONING)
    if settings.lora_run is not None:
        effort_of_run(settings.lora_run)
    perceptual = Perceptual(None, settings.fvd)
    with bench(settings) as b:
        video, video_record = open_video(settings.video, b.planner, settings.planner)
        policy, policy_record = open_cloning(settings.cloning, b.planner, settings.planner)
        makers = makers_of(b, video, settings)
        for _, make in makers.values():
            make(b.asked[:1])  # one-time set-up must not count
        policy_keys(policy, b.asked[:1], settings.batch_size)
        real = perceptual.features([item.truth for item in b.asked])
        plans, rows = {}, {}
        for name, (kind, make) in makers.items():
            plans[name], seconds = timed(make, b.asked)
            rows[name] = {"kind": kind, "seconds": seconds, "rows": rows_of(plans[name], b)}
        keys, seconds = timed(lambda asked: policy_keys(policy, asked, settings.batch_size), b.asked)
        rows[NAMES["cloning"]] = {"kind": "cloning", "seconds": seconds, "rows": executed(keys, b)}
        rows["true keyframes"] = {"kind": "bound", "rows": executed([item.keyframes for item in b.asked], b)}
        for name, frames in unplanned(b).items():
            plans[name] = frames
            rows[name] = {"kind": "bound", "rows": rows_of(frames, b)}
        reference = f"{NAMES['grid']}, {count_text(max(settings.steps))}"
        planners = {name: summary(row, rows[reference]["rows"], b.asked) for name, row in rows.items()}
        for name, made in plans.items():
            planners[name] |= perceptual.distance(perceptual.features(made), real)
        shown = {"demonstration": [item.truth for item in b.asked], **best_of_each(plans, settings)}
        pictures = [
            {"instruction": b.asked[scene].instruction, "strips": {name: packed(f[scene]) for name, f in shown.items()}}
            for scene in range(min(settings.pictured, len(b.asked)))
        ]
        frames = b.planner.spec.layout.frames
        parameters = sum(p.numel() for p in b.planner.transformer.parameters())
    trained = {"grid": grid_training(settings, parameters)}
    trained |= {"video": video_record.told(), "cloning": policy_record.told()}
    return {
        "reference": reference, "planners": planners, "trained": trained, "protocol": perceptual.protocol(frames),
        "pictures": pictures,
    }  # fmt: skip


def count_text(steps: int) -> str:
    """`1 step`, `8 steps`."""
    return f"{steps} step{'s' * (steps != 1)}"


def makers_of(b: Bench, video: VideoPlanner, settings: ComparisonSettings) -> dict[str, tuple[str, Callable]]:
    """Name -> kind and a function (requests) -> plans (F, h, w, 3) uint8, of the planners that paint frames."""

    def grid(steps: int) -> Callable[[list[Asked]], Frames]:
        return lambda asked: [
            group[0] for group in make_plans(b.planner, asked, MODE, batch_size=settings.batch_size, steps=steps)
        ]

    def of_video(steps: int) -> Callable[[list[Asked]], Frames]:
        return lambda asked: video_plans(video, asked, settings.batch_size, steps, settings.video_cfg)

    made = {f"{NAMES['grid']}, {count_text(steps)}": ("grid", grid(steps)) for steps in settings.steps}
    return made | {
        f"{NAMES['video']}, {count_text(steps)}": ("video", of_video(steps)) for steps in settings.video_steps
    }


def video_plans(video: VideoPlanner, asked: list[Asked], batch_size: int, steps: int, cfg: float = 1.0) -> Frames:
    """Plans (F, h, w, 3) uint8 of the requests, from the noise that the grid planner starts from."""
    made = []
    for start in range(0, len(asked), batch_size):
        part = asked[start : start + batch_size]
        pictures, prompts = zip(*(planner_input(item, MODE, video.spec) for item in part), strict=True)
        noise = draw_noise(video.spec, [item.seed for item in part])
        made += list(to_bytes(video.plan(np.stack(pictures), list(prompts), noise, steps, cfg)))
    return made


def policy_keys(policy: CloningPolicy, asked: list[Asked], batch_size: int) -> list[np.ndarray]:
    """Keyframes (F, 4) of the requests."""
    made = []
    for start in range(0, len(asked), batch_size):
        part = asked[start : start + batch_size]
        made += list(policy.keyframes(np.stack([item.first for item in part]), [item.instruction for item in part]))
    return made


def unplanned(b: Bench) -> dict[str, Frames]:
    """Frames without a planner: true frames through the autoencoder, and the first frame repeated."""
    return {
        "true frames through the autoencoder": [b.planner.through_autoencoder(item.truth) for item in b.asked],
        "first frame repeated": [np.repeat(item.first[None], len(item.truth), axis=0) for item in b.asked],
    }


def timed(make: Callable[[list[Asked]], list], asked: list[Asked]) -> tuple[list, float]:
    """A function's result for the requests, and its CPU seconds per request over all threads."""
    start = time.process_time()
    made = make(asked)
    return made, (time.process_time() - start) / len(made)


def rows_of(plans: Frames, b: Bench) -> list[dict]:
    """What is measured on plans that have frames."""
    rows = []
    for frames, item in zip(plans, b.asked, strict=True):
        judged, truth = judge_plan(frames, item, MODE, b.net), item.truth
        likeness = [psnr(made, real) for made, real in zip(frames[1:], truth[1:], strict=True)]
        rows.append(
            {
                "success": execute_plan(judged, item, b.world),
                "sound": judged.report.ok,
                "ssim": ssim(frames, truth),
                "psnr_db": float(np.mean(likeness)),
                "motion_ratio": motion(frames) / max(motion(truth), 1e-6),
            }
        )
    return rows


def executed(keys: list[np.ndarray], b: Bench) -> list[dict]:
    """What is measured on keyframes (F, 4), which have no frames."""
    return [{"success": carry_out(one, item, b.world)} for one, item in zip(keys, b.asked, strict=True)]


def summary(planner: dict, reference: list[dict], asked: list[Asked]) -> dict:
    """Rates and means with intervals, and the paired difference of success from the reference's rows."""
    rows = planner["rows"]
    done = [row["success"] for row in rows]
    result = {name: planner[name] for name in ("kind", "seconds") if name in planner}
    result |= {"success": rate(done, asked), "change": difference(done, [row["success"] for row in reference])}
    if "ssim" not in rows[0]:
        return result
    result["sound"] = one_rate([row["sound"] for row in rows])
    for name in ("ssim", "psnr_db", "motion_ratio"):
        values = np.array([row[name] for row in rows])
        low, high = bootstrap(values)
        result[name] = {"mean": float(values.mean()), "low": low, "high": high}
    return result


def best_of_each(plans: dict[str, Frames], settings: ComparisonSettings) -> dict[str, Frames]:
    """The plans with the most steps of each planner that paints frames."""
    counts = {"grid": settings.steps, "video": settings.video_steps}
    names = [f"{NAMES[kind]}, {count_text(max(steps))}" for kind, steps in counts.items()]
    return {name: plans[name] for name in names}


def grid_training(settings: ComparisonSettings, parameters: int) -> dict:
    """Facts on the grid planner's training: its size and, if its run is given, steps and hours."""
    told = {"lora": lora_of(settings.planner, settings.lora).name, "parameters": parameters}
    return told if settings.lora_run is None else told | effort_of_run(settings.lora_run)


def plot(result: dict):
    """Success of every planner, and plans of the first scenes."""
    made, axes = figure(15, 4.6, 2)
    rows = {name: row["success"] for name, row in result["planners"].items()}
    bars(axes[0], rows, {name: COLOURS.get(row["kind"], GREY) for name, row in result["planners"].items()})
    axes[0].tick_params(axis="x", labelsize="x-small")
    strips(axes[1], [(scene["instruction"], scene["strips"]) for scene in result["pictures"]])
    return made


def verdict(name: str, change: dict, reference: str) -> str:
    """What the interval of a paired difference allows one to conclude."""
    if change["low"] <= 0 <= change["high"]:
        return f"- {name}: no difference from the {reference} that these scenes could tell."
    return f"- {name}: succeeds {'more' if change['low'] > 0 else 'less'} often than the {reference}."


def page(result: dict) -> str:
    """The study's page."""
    planners, reference, settings = result["planners"], result["reference"], result["settings"]
    head = ["", "executed", "change", "SSIM", "PSNR [dB]", "motion", "checks passed", "CPU seconds per plan"]
    head += ["FVD"] * any("fvd_i3d" in row for row in planners.values())
    rows = [[name, *cells(row)][: len(head)] for name, row in planners.items()]
    others = {name: row for name, row in planners.items() if row["kind"] in COLOURS and name != reference}
    verdicts = "\n".join(verdict(name, row["change"], reference) for name, row in others.items())
    training = markdown_table(
        ["", "parameters", "training steps", "hours of training"],
        [[NAMES[kind], *training_cells(told)] for kind, told in result["trained"].items()],
    )
    protocol = "".join(f"{line}. " for line in result["protocol"])
    return f"""# Grid, video or no pictures

Is a plan better painted as one grid by an adapted image generator, generated as a video by a diffusion model trained
for the task alone, or not painted at all? All plan from the first frame and the instruction, in the same scenes.

**Answer:**
{verdicts}

![Success of each planner, and plans of the first scenes](PLOT)

{markdown_table(head, rows)}

## Training
{training}

The video planner is a 3-D U-Net on the latents and text embeddings that the grid planner was trained on, with the
same objective; the policy regresses the nine keyframes of the demonstrations (FiLM-modulated convolutions). Hours
are those of the training loop. The grid planner's are of the run that was named, on top of its base model, which is
trained on images of the table that show no task.

## Method
{method_lines(settings)} The grid and the video planner start from the same noise; their frames are decoded by the same
autoencoder and read by the same read-out. *Change*: paired difference of success from the {reference}. SSIM, PSNR and
motion (relative to the demonstration's) leave the given first frame out and are means over scenes. CPU seconds are of
all threads, in batches of {settings["batch_size"]}, text encoders and autoencoder included. Classifier-free guidance of
the video planner: {settings["video_cfg"]:g}. {protocol}

## Limits
One training run per planner; the hyperparameters of the video planner and of the policy were chosen once and not
tuned. An interval that contains 0 does not say that there is no difference. A small model at a simulated table says
little about a large one and a real robot.
"""


def cells(row: dict) -> list[str]:
    """Cells of one row of the page's table."""
    if "ssim" in row:
        parts = [(row["ssim"], "{:.3f}"), (row["psnr_db"], "{:.1f}"), (row["motion_ratio"], "{:.2f}")]
        seen = [interval_text(values, form) for values, form in parts]
        seen.append(rate_cell(row["sound"]))
    else:
        seen = ["-"] * 4
    seconds = f"{row['seconds']:.3f}" if "seconds" in row else "-"
    fvd = f"{row['fvd_i3d']['value']:.0f}" if "fvd_i3d" in row else "-"
    return [rate_cell(row["success"]), change_cell(row["change"]), *seen, seconds, fvd]


def interval_text(values: dict, form: str) -> str:
    """`0.91 (0.89 to 0.93)` of a mean and its interval."""
    return f"{form.format(values['mean'])} ({form.format(values['low'])} to {form.format(values['high'])})"


def training_cells(told: dict) -> list[str]:
    """Size of one planner and, if its run was given, its training effort."""
    hours = f"{told['hours']:.2f}" if "hours" in told else "not recorded"
    return [f"{told['parameters'] / 1e6:.1f} M", f"{told['steps']}" if "steps" in told else "not recorded", hours]


STUDY = Study(ComparisonSettings, measure, plot, page)
