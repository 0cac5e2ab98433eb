"""The configuration of a run: one YAML file, one section per command, unknown keys refused.

Every field has a range and a description; `python -m training describe` prints them. A command saves the
resolved configuration beside its results.
"""

from dataclasses import fields
from pathlib import Path

import yaml
from pydantic import Field, ValidationError, model_validator

from visual_planner.errors import brief, listed, plain
from visual_planner.planner.spec import PlannerSpec

from ..errors import TrainingError
from ..files import write_text
from .baselines import CloningBaselineSection, VideoBaselineSection
from .data import CacheSection, PrepareSection, Section
from .improve import ImproveSection
from .planner import DecoderSection, DistillSection, PretrainSection, ReadoutSection, TrainSection, VaeSection
from .result import EvaluateSection, ExportSection
from .yaml_text import read_yaml, read_yaml_mapping


class Config(Section):
    """A whole file: the planner's record and a section per command; only the sections used must be there."""

    spec: dict = Field(default_factory=dict, description="fields of PlannerSpec")
    prepare: PrepareSection | None = None
    cache: CacheSection | None = None
    vae: VaeSection | None = None
    decoder: DecoderSection | None = None
    pretrain: PretrainSection | None = None
    train: TrainSection | None = None
    distill: DistillSection | None = None
    export: ExportSection | None = None
    evaluate: EvaluateSection | None = None
    improve: ImproveSection | None = None
    readout: ReadoutSection | None = None
    video_baseline: VideoBaselineSection | None = None
    cloning_baseline: CloningBaselineSection | None = None

    @model_validator(mode="before")
    @classmethod
    def _fit_belongs_to_the_spec(cls, data: object) -> object:
        """Accept `prepare.fit`, as in configurations of earlier versions."""
        prepare = data.get("prepare") if isinstance(data, dict) else None
        if not isinstance(prepare, dict) or "fit" not in prepare:
            return data
        spec = data.get("spec") or {}
        if not isinstance(spec, dict):
            return data
        if spec.get("fit", prepare["fit"]) != prepare["fit"]:
            raise ValueError(
                f"prepare.fit is {brief(prepare['fit'])}, but spec.fit is {brief(spec['fit'])}: leave out prepare.fit"
            )
        rest = {name: value for name, value in prepare.items() if name != "fit"}
        return {**data, "prepare": rest, "spec": {**spec, "fit": prepare["fit"]}}

    @model_validator(mode="after")
    def _spec_is_valid(self) -> "Config":
        self.planner_spec()
        return self

    def planner_spec(self) -> PlannerSpec:
        """The PlannerSpec of this file.

        Raises:
            PlannerError: a field is unknown or out of range.
        """
        unknown = sorted(self.spec.keys() - {field.name for field in fields(PlannerSpec)}, key=str)
        if unknown:
            raise TrainingError(f"spec: unknown keys {listed(unknown)}")
        return PlannerSpec(**self.spec)

    def section(self, name: str) -> Section:
        """The section of a command.

        Raises:
            TrainingError: the file has none.
        """
        section = getattr(self, name)
        if section is None:
            raise TrainingError(f"the configuration has no section {brief(name)}, which this command needs")
        return section


def load_config(path: str | Path | None, overrides: list[str] = ()) -> Config:
    """Read a configuration file; `overrides` are "section.key=value" with the value in YAML.

    Args:
        path: the file; None starts from an empty one.
        overrides: changes, applied in order.

    Raises:
        TrainingError: the file is missing, is not YAML, or has a key or value that is not allowed.
    """
    where = "of the command line" if path is None else str(path)
    if path is not None and not Path(path).is_file():
        raise TrainingError(f"configuration {path} is not a file")
    data = {} if path is None else read_yaml_mapping(Path(path), "configuration")
    for override in overrides:
        _override(data, override)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise TrainingError(f"configuration {where}: {first_problems(error)}") from error


def save_config(config: Config, path: str | Path) -> None:
    """Write the resolved configuration as YAML; a run keeps it beside its results."""
    data = config.model_dump(mode="json", exclude_none=True)
    write_text(path, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


def _override(data: dict, override: str) -> None:
    name, separator, value = override.partition("=")
    if not separator:
        raise TrainingError(f"override must read section.key=value, got {brief(override)}")
    *parents, last = name.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise TrainingError(f"override {brief(override)}: {brief(parent)} is a value, not a section")
    data[last] = read_yaml(value, f"override {brief(override)}")


def first_problems(error: ValidationError, most: int = 5) -> str:
    """The first problems of the values, each with its place."""
    problems = error.errors(include_url=False)
    lines = []
    for problem in problems[:most]:
        place = plain(".".join(str(part) for part in problem["loc"]) or "file")
        if problem["type"] == "extra_forbidden":
            lines.append(f"{place}: unknown key")
        else:
            got = "" if problem["type"] in ("missing", "value_error") else f", got {brief(problem['input'])}"
            lines.append(f"{place}: {plain(problem['msg'], 300)}{got}")
    more = f"; and {len(problems) - most} more" if len(problems) > most else ""
    return "; ".join(lines) + more
