"""Nodes between trajectories and the tracks of other packs and tools."""

from comfy_api.latest import io

from ..visual_planner.errors import TrajectoryError
from ..visual_planner.trajectory.interchange import (
    read_text,
    read_track_tensors,
    write_points_store,
    write_track_tensors,
)
from ..visual_planner.trajectory.stroke import STROKE_STARTS, read_stroke
from ..visual_planner.trajectory.tracking import track_points
from ..visual_planner.trajectory.trajectory import Trajectory
from .pictures import mask_of, pictures
from .wires import TrajectoryType, inside, look, outside_input, schema, trajectory_outputs

Tracks = io.Custom("TRACKS")
UNITS = ("pixels", "normalised")


def _size_inputs(what: str) -> list[io.Int.Input]:
    """Width and height of a frame; 0 if they are known from elsewhere."""
    return [
        io.Int.Input(side, default=0, min=0, max=16384, tooltip=f"{side.capitalize()} {what}.")
        for side in ("width", "height")
    ]


class VisualPlannerImportTrajectory(io.ComfyNode):
    """A trajectory from another tool."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerImportTrajectory",
            "Import Trajectory (Visual Planner)",
            "plan",
            description="Creates a trajectory from the output of other node packs and tools: spline editors' "
            "coordinates, tracks, normalised points, a painted stroke, CVAT XML.",
            search_aliases=["kjnodes spline", "coordinates", "tracks", "cvat", "stroke", "ATI"],
            is_output_node=True,
            inputs=[
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="Coordinates, tracks or points_store as JSON, or CVAT XML. Leave it empty if tracks or "
                    "a stroke are connected.",
                ),
                io.Combo.Input(
                    "units",
                    options=list(UNITS),
                    default="pixels",
                    tooltip="pixels of the frame, or normalised: fractions of its width and height from 0 to 1.",
                ),
                *_size_inputs("of the frame in pixels; 0 uses that of the first frame"),
                io.Combo.Input(
                    "stroke_start",
                    options=list(STROKE_STARTS),
                    default="left",
                    tooltip="Which end of a painted stroke is the start of the path.",
                ),
                outside_input(),
                io.Image.Input("first_frame", optional=True, tooltip="Provides the frame size."),
                Tracks.Input("tracks", optional=True, tooltip="Tracks of a point tracker: one position per frame."),
                io.Mask.Input("stroke", optional=True, tooltip="A path painted as a mask with one stroke."),
            ],
            outputs=trajectory_outputs(),
        )

    @classmethod
    @pictures("first_frame")
    def execute(
        cls,
        text: str,
        units: str,
        width: int,
        height: int,
        stroke_start: str,
        outside: str,
        first_frame=None,
        tracks=None,
        stroke=None,
    ) -> io.NodeOutput:
        """Read the single source that is given."""
        given = [name for name, is_given in _sources(text, tracks, stroke).items() if is_given]
        if len(given) != 1:
            raise TrajectoryError(f"exactly one of text, tracks, stroke is required, got {', '.join(given) or 'none'}")
        if first_frame is not None:
            width, height = width or first_frame.shape[2], height or first_frame.shape[1]
        if stroke is not None:
            trajectory = read_stroke(mask_of(stroke, "stroke"), stroke_start)
        elif tracks is not None:
            trajectory = read_track_tensors(tracks, width, height)
        else:
            trajectory = read_text(text, width or None, height or None, units == "normalised")
        trajectory = inside(trajectory, outside)
        return io.NodeOutput(trajectory, trajectory.to_json(), ui=look(cls, text=trajectory.to_json()))


def _sources(text: str, tracks, stroke) -> dict[str, bool]:
    return {"text": bool(text.strip()), "tracks": tracks is not None, "stroke": stroke is not None}


class VisualPlannerExportTrajectory(io.ComfyNode):
    """A trajectory for nodes of other packs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerExportTrajectory",
            "Export Trajectory (Visual Planner)",
            "plan",
            description="Writes a trajectory in the formats of other node packs: coordinates for KJNodes, ATI and "
            "Wan Track to Video, the state of KJNodes' spline editor, and TRACKS.",
            search_aliases=["wan tracks", "ATI", "coordinates", "kjnodes"],
            inputs=[
                TrajectoryType.Input("trajectory", tooltip="The trajectory to export."),
                io.Int.Input(
                    "samples",
                    default=121,
                    min=1,
                    max=4096,
                    tooltip="Number of positions along each path, evenly spaced in time. Wan's track nodes expect 121.",
                ),
                *_size_inputs("of the other node's frame; 0 keeps the trajectory's"),
            ],
            outputs=[
                io.String.Output(
                    "coordinates", display_name="coordinates", tooltip="One position per sample, as JSON."
                ),
                io.String.Output(
                    "points_store", display_name="points_store", tooltip="Control points, for KJNodes' spline editor."
                ),
                Tracks.Output("tracks", display_name="tracks", tooltip="The same positions as TRACKS tensors."),
            ],
        )

    @classmethod
    def execute(cls, trajectory: Trajectory, samples: int, width: int, height: int) -> io.NodeOutput:
        """Scale and write."""
        trajectory = trajectory.scaled(width or trajectory.width, height or trajectory.height)
        tensors = write_track_tensors(trajectory, samples)
        return io.NodeOutput(trajectory.to_track_json(samples), write_points_store(trajectory), tensors)


class VisualPlannerTrackPoints(io.ComfyNode):
    """A trajectory from a video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerTrackPoints",
            "Track Points (Visual Planner)",
            "plan",
            description="Tracks the first point of each path through the frames of a video and returns its motion "
            "as a trajectory. A lost point ends its path.",
            search_aliases=["optical flow", "point tracker", "lucas kanade", "video to trajectory"],
            is_output_node=True,
            inputs=[
                io.Image.Input("frames", tooltip="Frames of a video in time order."),
                TrajectoryType.Input("start", tooltip="The first point of each of its paths is tracked."),
                io.Float.Input(
                    "max_error",
                    default=1.0,
                    min=0.1,
                    max=20.0,
                    step=0.1,
                    tooltip="Largest forward-backward tracking error of a step in pixels; a point with a larger one "
                    "is lost.",
                ),
            ],
            outputs=[
                *trajectory_outputs("Motion of the points."),
                io.Boolean.Output(
                    "complete", display_name="complete", tooltip="True if no point was lost before the last frame."
                ),
            ],
        )

    @classmethod
    @pictures("frames", cpu=True)
    def execute(cls, frames, start: Trajectory, max_error: float) -> io.NodeOutput:
        """Follow the points."""
        trajectory, found = track_points(frames, start, max_error)
        lost = [path.name for path, seen in zip(start.paths, found[-1], strict=True) if not seen]
        text = f"lost before the last frame: {', '.join(lost)}" if lost else f"tracked through {len(found)} frames"
        return io.NodeOutput(trajectory, trajectory.to_json(), not lost, ui=look(cls, text=text))
