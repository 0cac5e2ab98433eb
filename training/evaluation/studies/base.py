"""Shared code of the studies: planners and scenes to study, plots and tables."""

import re
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from visual_planner.planner.prompts import MODES, USUAL_MODES
from worlds.protocol import World
from worlds.registry import open_world

from ...errors import TrainingError
from ...files import ROOT
from ...model.pipeline import PlannerPipeline, open_planner
from ...model.readout import open_readout
from ...sections.data import Positive, Section
from ..closed_loop.evaluation import Settings, draw_all
from ..closed_loop.requests import Asked

NotNegative = Annotated[int, Field(ge=0)]


class StudySettings(Section):
    """Settings of every study."""

    world: str = Field("jaco", description="name of the world")
    planner: Path = Field(ROOT / "models" / "tiny_planner", description="folder of the planner")
    lora: Path | None = Field(None, description="its LoRA (default: the one in loras/)")
    readout: Path = Field(ROOT / "models" / "readout", description="folder of the read-out")
    modes: tuple[Literal[MODES], ...] = Field(USUAL_MODES, description="modes of planning")
    first_seed: NotNegative = Field(9_100_000, description="seed of the first scene")
    scenes: Positive = Field(100, description="scenes per mode")
    wordings: str = Field("held_out", description="phrasings of the instructions, one of the world's sets")
    camera_jitter_m: float = Field(0.0, description="standard deviation of the camera's position [m]")
    camera_turn_deg: float = Field(0.0, description="mean rotation of the camera around the table [degrees]")
    batch_size: Positive = Field(16, description="plans generated at once")
    threads: int = Field(0, ge=0, description="CPU threads (0: torch's default)")

    def closed_loop(self, **more: Any) -> Settings:
        """The settings in the closed loop's form."""
        return Settings(
            world=self.world, modes=self.modes, first_seed=self.first_seed, scenes=self.scenes, wordings=self.wordings,
            camera_jitter_m=self.camera_jitter_m, camera_turn_deg=self.camera_turn_deg,
            batch_size=self.batch_size, **more,
        )  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """Everything with which plans are generated and executed.

    Args:
        planner: the planner with its LoRA.
        net: the read-out.
        world: the open world.
        asked: the requests.
    """

    planner: PlannerPipeline
    net: Any
    world: World
    asked: list[Asked]


@contextmanager
def bench(settings: StudySettings):
    """Open everything that the settings name; closes the world."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    planner, _ = open_planner(settings.planner, settings.lora)
    net = open_readout(settings.readout)
    loop = settings.closed_loop(keyframes="shape" if planner.spec.keyframes == "shape" else "")
    with open_world(settings.world, planner.spec.cell_height) as world:
        yield Bench(planner, net, world, draw_all(world, loop, planner.spec.layout.frames))


@dataclass(frozen=True)
class Study:
    """One experiment.

    Args:
        settings: model of its settings.
        measure: (settings, folder for intermediate files) -> results, ready for JSON.
        plot: results -> matplotlib figure.
        page: results -> Markdown; the word PLOT becomes the plot's file name.
        worlds: the only worlds in which it can run, because it depends on their internals; empty: all.
    """

    settings: type[StudySettings]
    measure: Callable[[StudySettings, Path], dict]
    plot: Callable[[dict], Any]
    page: Callable[[dict], str]
    worlds: tuple[str, ...] = ()

    def check(self, settings: StudySettings) -> None:
        """Refuse settings that cannot be studied.

        Raises:
            TrainingError: a world that this study does not know, or values that the world refuses.
        """
        if self.worlds and settings.world not in self.worlds:
            raise TrainingError(f"world must be {' or '.join(self.worlds)} for this study, got {settings.world}")
        settings.closed_loop()


def rate_cell(row: dict) -> str:
    """`12/20, 60% (39% to 78%)`."""
    return f"{row['successes']}/{row['n']}, {row['rate']:.0%} ({row['low']:.0%} to {row['high']:.0%})"


def change_cell(row: dict) -> str:
    """`+8% (-2% to +17%)`."""
    return f"{row['difference']:+.0%} ({row['low']:+.0%} to {row['high']:+.0%})"


def apart(row: dict, other: dict) -> int:
    """1 if a rate's interval lies above another's, -1 if below, 0 if they overlap (stricter than a test)."""
    return (row["low"] > other["high"]) - (row["high"] < other["low"])


def by_side(pairs: Mapping[str, tuple[dict, dict]]) -> dict[int, list[str]]:
    """Names by how their rate's interval lies against that of the other rate; see `apart`."""
    found: dict[int, list[str]] = {}
    for name, (row, other) in pairs.items():
        found.setdefault(apart(row, other), []).append(name)
    return found


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def sentence_lines(text: str) -> str:
    """Markdown with one sentence per line; headings, tables, lists and pictures stay as they are.

    A sentence ends at `.`, `!` or `?` before a space and a capital letter.
    """
    blocks = []
    for block in text.split("\n\n"):
        lines, running = [], []
        for line in [*block.split("\n"), "|"]:
            if re.match(r"\s*(?:[-*] |[|#!<]|\d+\. |$)", line):
                lines += re.split(r"(?<=[.!?]) +(?=[*_`(\[]*[A-Z])", " ".join(running)) if running else []
                lines.append(line)
                running = []
            else:
                running.append(line.strip())
        blocks.append("\n".join(lines[:-1]))
    return "\n\n".join(blocks)


def method_lines(settings: dict) -> str:
    """A page's sentences on what was measured and where."""
    turn = settings.get("camera_turn_deg", 0.0)  # older results, from before the camera could be turned, have none
    camera = f"moved by {settings['camera_jitter_m']} m" + (f", turned by {turn:g} degrees" if turn else "")
    world = settings.get("world", "jaco")  # older results, from before there were several worlds, have none
    scenes = "scenes per mode" if world == "jaco" else f"scenes per mode of world {world}"
    tasks = "the four tasks in turn" if world == "jaco" else "as the world's protocol has them"
    return (
        f"Planner `{Path(settings['planner']).name}`; modes {', '.join(settings['modes'])}; {settings['scenes']} "
        f"{scenes}, seeds from {settings['first_seed']}, {tasks}; phrasings "
        f"`{settings['wordings']}`, camera {camera}. A plan succeeds if the simulator, executing the actions read "
        "from its frames, reaches the goal. Intervals: 95%, Wilson for rates, bootstrap over scenes for differences."
    )
