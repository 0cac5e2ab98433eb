"""Nodes of the grid: its layout, assembling and slicing it, and the grid that holds only the first frame."""

from comfy_api.latest import io

from ..visual_planner.grid.cells import assemble_grid, condition_grid, fit_frame, slice_grid
from ..visual_planner.grid.layout import ORDERS, GridLayout
from ..visual_planner.grid.masks import pixel_mask
from ..visual_planner.planner.spec import PlannerSpec
from .pictures import pictures
from .wires import LayoutType, fit_input, fit_of, fps_input, layout_input, layout_of, look, schema, shares_of, video_of

MAX_SIDE = 64
"""Largest number of rows or columns on a widget."""


class VisualPlannerGridLayout(io.ComfyNode):
    """A grid layout chosen by hand."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerGridLayout",
            "Grid Layout (Visual Planner)",
            "grid",
            description="Defines how many frames a grid holds and in which order time runs through its cells.",
            search_aliases=["serpentine", "grid order", "storyboard"],
            inputs=[
                io.Int.Input("rows", default=3, min=1, max=MAX_SIDE, tooltip="Number of rows of cells."),
                io.Int.Input("cols", default=3, min=1, max=MAX_SIDE, tooltip="Number of columns of cells."),
                io.Combo.Input(
                    "order",
                    options=list(ORDERS),
                    default="serpentine",
                    tooltip="serpentine: row by row, every other row reversed, so that consecutive frames are "
                    "adjacent; raster: row by row; column_serpentine: column by column, every other one upwards; "
                    "shuffled: a fixed permutation, for ablations.",
                ),
            ],
            outputs=[
                LayoutType.Output(
                    "grid_layout", display_name="layout", tooltip="For the nodes that slice or assemble grids."
                ),
                io.Int.Output("frame_count", display_name="frames", tooltip="Number of frames in one grid."),
            ],
        )

    @classmethod
    def execute(cls, rows: int, cols: int, order: str) -> io.NodeOutput:
        """Make the layout."""
        layout = GridLayout(rows, cols, order)
        return io.NodeOutput(layout, layout.frames)


class VisualPlannerAssembleGrid(io.ComfyNode):
    """Assembles frames into a grid."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerAssembleGrid",
            "Assemble Grid (Visual Planner)",
            "grid",
            description="Arranges frames in the cells of a grid, losslessly: Slice Grid returns the same frames.",
            search_aliases=["frames to grid", "contact sheet", "image grid"],
            is_output_node=True,
            inputs=[
                io.Image.Input(
                    "frames", tooltip="Frames in time order. Frames of several grids may follow one another."
                ),
                layout_input("Grid layout or planner spec. If not connected: 3x3 serpentine, nine frames."),
            ],
            outputs=[
                io.Image.Output("grid", display_name="grid", tooltip="One grid image for every complete set of frames.")
            ],
        )

    @classmethod
    @pictures("frames")
    def execute(cls, frames, layout: GridLayout | PlannerSpec | None = None) -> io.NodeOutput:
        """Assemble."""
        grid = assemble_grid(frames, layout_of(layout))
        return io.NodeOutput(grid, ui=look(cls, grid))


class VisualPlannerSliceGrid(io.ComfyNode):
    """Slices a grid into frames and a video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerSliceGrid",
            "Slice Grid (Visual Planner)",
            "grid",
            description="Cuts a grid image into its frames, in time order. A grid that does not divide evenly is an "
            "error and is never cropped.",
            search_aliases=["grid to frames", "grid to video", "image grid to batch"],
            is_output_node=True,
            inputs=[
                io.Image.Input("grid", tooltip="Grid image, such as the decoded result of the sampler."),
                layout_input("Grid layout or planner spec. If not connected: 3x3 serpentine."),
                fps_input("Frame rate of the video."),
            ],
            outputs=[
                io.Image.Output("frames", display_name="frames", tooltip="The frames in time order, grid after grid."),
                io.Video.Output("video", display_name="video", tooltip="The same frames as a video, for Save Video."),
            ],
        )

    @classmethod
    @pictures("grid")
    def execute(cls, grid, fps: float = 4.0, layout: GridLayout | PlannerSpec | None = None) -> io.NodeOutput:
        """Slice."""
        frames = slice_grid(grid, layout_of(layout))
        video = video_of(frames, fps, shares_of(frames, layout))
        return io.NodeOutput(frames, video, ui=look(cls, frames, enlarge=False))


class VisualPlannerMaskFirstFrame(io.ComfyNode):
    """The grid that holds only the first frame, and the mask of what is to be generated."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        size = {"min": 16, "max": 4096, "step": 16}
        return schema(
            "VisualPlannerMaskFirstFrame",
            "Mask First Frame (Visual Planner)",
            "grid",
            description="Creates a grid with the first frame in its cell and all other cells black, with its mask "
            "and its size. Planning does not need it (Condition does the same internally); it is for inspection, "
            "for inpainting and for other models.",
            search_aliases=["condition grid", "first frame mask"],
            is_output_node=True,
            inputs=[
                io.Image.Input("first_frame", tooltip="Image of the scene before the robot moves; one grid per image."),
                layout_input(
                    "Planner spec or grid layout. A spec also defines the cell's size. If not connected: 3x3 "
                    "serpentine."
                ),
                io.Int.Input(
                    "cell_width", default=320, **size, tooltip="Width of a cell in pixels, unless a spec defines it."
                ),
                io.Int.Input(
                    "cell_height", default=240, **size, tooltip="Height of a cell in pixels, unless a spec defines it."
                ),
                fit_input(),
            ],
            outputs=[
                io.Image.Output(
                    "condition", display_name="condition grid", tooltip="First frame in its cell, black elsewhere."
                ),
                io.Mask.Output(
                    "mask", display_name="mask", tooltip="1 where frames are generated, 0 on the first frame."
                ),
                io.Int.Output("grid_width", display_name="grid width", tooltip="Width of the grid in pixels."),
                io.Int.Output("grid_height", display_name="grid height", tooltip="Height of the grid in pixels."),
            ],
        )

    @classmethod
    @pictures("first_frame")
    def execute(
        cls, first_frame, cell_width: int, cell_height: int, fit: str, layout: GridLayout | PlannerSpec | None = None
    ) -> io.NodeOutput:
        """Fit the frame into its cell and mask the rest."""
        if isinstance(layout, PlannerSpec):
            cell_width, cell_height = layout.cell_width, layout.cell_height
        grid_layout = layout_of(layout)
        grid = condition_grid(fit_frame(first_frame, cell_height, cell_width, fit_of(fit, layout)), grid_layout)
        mask = pixel_mask(grid_layout, cell_height, cell_width).repeat(grid.shape[0], 1, 1)
        return io.NodeOutput(grid, mask, grid.shape[2], grid.shape[1], ui=look(cls, grid))
