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
from .wires import TrajectoryType, look, outside_input, schema, trajectory_outputs

Tracks = io.Custom("TRACKS")
UNITS = ("pixels", "normalised")


def _size_inputs(what: str) -> list[io.Int.Input]:
    """Width and height of a frame, 0 where it is known from elsewhere."""
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
            description="Makes a trajectory of what other packs and tools write: spline editors' coordinates, tracks, "
            "normalised points, a painted stroke, CVAT XML.",
            search_aliases=["kjnodes spline", "coordinates", "tracks", "cvat", "stroke", "ATI"],
            inputs=[
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="Coordinates, tracks or points_store as JSON, or CVAT XML. Leave it empty when tracks or "
                    "a stroke are connected.",
                ),
                io.Combo.Input(
                    "units",
                    options=list(UNITS),
                    default="pixels",
                    tooltip="pixels of the frame, or normalised: shares of its width and height from 0 to 1.",
                ),
                *_size_inputs("of the frame in pixels; 0: that of the first frame"),
                io.Combo.Input(
                    "stroke_start",
                    options=list(STROKE_STARTS),
                    default="left",
                    tooltip="Which end of a painted stroke is the start of the path.",
                ),
                outside_input(),
                io.Image.Input("first_frame", optional=True, tooltip="Gives the size of the frame."),
                Tracks.Input("tracks", optional=True, tooltip="Tracks of a point tracker: one place for each frame."),
                io.Mask.Input("stroke", optional=True, tooltip="A path painted as a mask, one stroke."),
            ],
            outputs=trajectory_outputs(),
        )

    @classmethod
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
        """Read the one source that is given."""
        given = [name for name, is_given in _sources(text, tracks, stroke).items() if is_given]
        if len(given) != 1:
            raise TrajectoryError(f"one of text, tracks and stroke must be given, got {', '.join(given) or 'none'}")
        if first_frame is not None:
            width, height = width or first_frame.shape[2], height or first_frame.shape[1]
        if stroke is not None:
            trajectory = read_stroke(stroke, stroke_start)
        elif tracks is not None:
            trajectory = read_track_tensors(tracks, width, height)
        else:
            trajectory = read_text(text, width or None, height or None, units == "normalised")
        trajectory = trajectory.clipped(outside)
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
            description="Writes a trajectory as other packs read it: coordinates for KJNodes, ATI and Wan Track to "
            "Video, the state of KJNodes' spline editor, and TRACKS.",
            search_aliases=["wan tracks", "ATI", "coordinates", "kjnodes"],
            inputs=[
                TrajectoryType.Input("trajectory", tooltip="The trajectory to write."),
                io.Int.Input(
                    "samples",
                    default=121,
                    min=1,
                    max=4096,
                    tooltip="Number of places along each path, evenly in time. Wan's track nodes take 121.",
                ),
                *_size_inputs("of the other node's frame; 0: the trajectory's own"),
            ],
            outputs=[
                io.String.Output(
                    "coordinates", display_name="coordinates", tooltip="A place for each sample, as JSON."
                ),
                io.String.Output("points_store", display_name="points_store", tooltip="Control points, for KJNodes."),
                Tracks.Output("tracks", display_name="tracks", tooltip="The same places as TRACKS tensors."),
            ],
        )

    @classmethod
    def execute(cls, trajectory: Trajectory, samples: int, width: int, height: int) -> io.NodeOutput:
        """Scale and write."""
        trajectory = trajectory.scaled(width or trajectory.width, height or trajectory.height)
        tensors = write_track_tensors(trajectory, samples)
        return io.NodeOutput(trajectory.to_track_json(samples), write_points_store(trajectory), tensors)


class VisualPlannerTrackPoints(io.ComfyNode):
    """A trajectory out of a video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerTrackPoints",
            "Track Points (Visual Planner)",
            "plan",
            description="Follows the first point of each path through the frames of a video and makes a trajectory of "
            "where it went. A point that is lost ends its path.",
            search_aliases=["optical flow", "point tracker", "lucas kanade", "video to trajectory"],
            inputs=[
                io.Image.Input("frames", tooltip="Frames of a video in time order."),
                TrajectoryType.Input("start", tooltip="The first point of each of its paths is followed."),
                io.Float.Input(
                    "max_error",
                    default=1.0,
                    min=0.1,
                    max=20.0,
                    step=0.1,
                    tooltip="Largest error in pixels when a step is followed there and back; more counts as lost.",
                ),
            ],
            outputs=[
                *trajectory_outputs("Where the points went."),
                io.Boolean.Output(
                    "complete", display_name="complete", tooltip="True when no point was lost before the last frame."
                ),
            ],
        )

    @classmethod
    def execute(cls, frames, start: Trajectory, max_error: float) -> io.NodeOutput:
        """Follow the points."""
        trajectory, found = track_points(frames, start, max_error)
        lost = [path.name for path, seen in zip(start.paths, found[-1], strict=True) if not seen]
        text = f"lost on the way: {', '.join(lost)}" if lost else f"followed through {len(found)} frames"
        return io.NodeOutput(trajectory, trajectory.to_json(), not lost, ui=look(cls, text=text))
