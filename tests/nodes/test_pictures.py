"""Images, masks and tracks of any dtype, shape and device on every wire: read as the usual ones are, or one line."""

import pytest
import torch

from support.small_spec import SMALL_SPEC

pytestmark = pytest.mark.comfyui
SIDE = 32


class OnGpu(torch.Tensor):
    """A tensor that behaves as one on a GPU does where it meets numpy: only `cpu` brings it there."""

    def __array__(self, *args, **more):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    numpy = __array__

    def cpu(self, *args, **more):
        return self.as_subclass(torch.Tensor)

    def to(self, *args, **more):
        moved = super().to(*args, **more)
        return moved.as_subclass(torch.Tensor) if "cpu" in map(str, (*args, *more.values())) else moved


FORMS = {
    "bfloat16": lambda image: image.to(torch.bfloat16),
    "float16": lambda image: image.to(torch.float16),
    "float64": lambda image: image.to(torch.float64),
    "gradients": lambda image: image.clone().requires_grad_(True),
    "gradients in half": lambda image: image.to(torch.bfloat16).requires_grad_(True),
    "gpu": lambda image: image.as_subclass(OnGpu),
    "gpu, half": lambda image: image.to(torch.bfloat16).as_subclass(OnGpu),
    "not contiguous": lambda image: image.movedim(-1, 1).contiguous().movedim(1, -1),
    "opaque": lambda image: torch.cat([image, torch.ones_like(image[..., :1])], dim=-1),
}
GREY = {
    "one channel": lambda image: image[..., :1],
    "one channel in half": lambda image: image[..., :1].to(torch.bfloat16),
    "grey and opaque": lambda image: torch.cat([image[..., :1], torch.ones_like(image[..., :1])], dim=-1),
    "no channel": lambda image: image[..., 0],
}


def grey(image):
    return image[..., :1].expand(*image.shape[:-1], 3).contiguous()


@pytest.fixture(scope="session")
def random():
    """Pictures whose values are the same in half precision."""

    def make(count, height=SIDE, width=SIDE):
        generator = torch.Generator().manual_seed(count)
        return torch.randint(0, 129, (count, height, width, 3), generator=generator).float() / 128

    return make


PATH = '[[{"x": 4, "y": 4}, {"x": 20, "y": 9}]]'


@pytest.fixture
def path(module):
    return module("visual_planner.trajectory.parse").parse_trajectory(PATH, SIDE, SIDE)


@pytest.fixture
def cases(module, random, path, tiny_vae):
    """(node, its IMAGE input, a good picture for it, its other inputs)."""
    spec = module("visual_planner.planner.spec").PlannerSpec(**SMALL_SPEC)
    nine, one = random(9), random(1)
    look = {"fps": 4.0, "hold_first": 0, "hold_last": 0, "ping_pong": False, "defects": True, "fit": "letterbox"}
    text = {"text": PATH, "units": "pixels", "width": 0, "height": 0,
            "stroke_start": "left", "outside": "error"}  # fmt: skip
    cells = random(3, spec.cell_height, spec.cell_width)
    latent = {"samples": torch.zeros(1, *spec.latent_shape)}
    return {
        "assemble": ("VisualPlannerAssembleGrid", "frames", nine, {}),
        "slice": ("VisualPlannerSliceGrid", "grid", random(1, 3 * SIDE, 3 * SIDE), {}),
        "mask": ("VisualPlannerMaskFirstFrame", "first_frame", one, {"cell_width": 16, "cell_height": 16,
                                                                     "fit": "crop"}),
        "trajectory": ("VisualPlannerTrajectory", "first_frame", one, {"trajectory_json": path.to_json()}),
        "overlay": ("VisualPlannerTrajectoryOverlay", "first_frame", one, {"trajectory": path, "style": "gradient",
                                                                           "color_by": "time"}),
        "import": ("VisualPlannerImportTrajectory", "first_frame", one, text),
        "track": ("VisualPlannerTrackPoints", "frames", one.repeat(9, 1, 1, 1), {"start": path, "max_error": 1.0}),
        "check": ("VisualPlannerCheck", "frames", nine, {"first_frame": one, "trajectory": path}),
        "check first": ("VisualPlannerCheck", "first_frame", one, {"frames": nine, "fit": "letterbox"}),
        "look": ("VisualPlannerLook", "frames", nine, {**look, "trajectory": path}),
        "look truth": ("VisualPlannerLook", "truth", nine, {**look, "frames": nine}),
        "look first": ("VisualPlannerLook", "first_frame", one, {**look, "frames": nine}),
        "join": ("VisualPlannerJoin", "before", nine, {"after": nine, "overlap": 1, "join": "drop", "fps": 4.0}),
        "rank": ("VisualPlannerRank", "frames", random(18, 64, 64), {}),
        "condition": ("VisualPlannerCondition", "first_frame", one, {"vae": tiny_vae, "spec": spec, "fit": "crop"}),
        "keep": ("VisualPlannerKeepFrames", "frames", cells, {"latent": latent, "vae": tiny_vae, "spec": spec,
                                                              "count": 2}),
        "actions": ("VisualPlannerPlanToActions", "frames", random(9, 64, 64), {}),
    }  # fmt: skip


NAMES = (
    "assemble", "slice", "mask", "trajectory", "overlay", "import", "track", "check", "check first", "look",
    "look truth", "look first", "join", "rank", "condition", "keep", "actions",
)  # fmt: skip


@pytest.fixture
def run(comfy, cases, tiny_model):
    def call(name, change=lambda image: image):
        node, field, image, others = cases[name]
        if name == "condition":
            context = [[torch.zeros(1, 4, 128), {"pooled_output": torch.zeros(1, 64)}]]
            others = {**others, "model": tiny_model, "positive": context}
        return comfy.call(node, **{**others, field: change(image)})

    return call


def flat(value):
    """What can be compared of a node's outputs."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [part for key in sorted(value, key=str) for part in flat(value[key])]
    if isinstance(value, tuple | list):
        return [part for item in value for part in flat(item)]
    if hasattr(value, "get_components"):
        return [value.get_components().images]
    return [value] if isinstance(value, str | int | float | bool) else []


def same(first, second):
    first, second = flat(first), flat(second)
    assert len(first) == len(second) > 0
    for a, b in zip(first, second, strict=True):
        if isinstance(a, torch.Tensor):
            a, b = (tensor.as_subclass(torch.Tensor).float() for tensor in (a, b))
            channels = min(a.shape[-1], b.shape[-1]) if a.ndim == 4 and {a.shape[-1], b.shape[-1]} == {3, 4} else None
            torch.testing.assert_close(a[..., :channels], b[..., :channels], atol=1e-6, rtol=0)
        else:
            assert a == b


@pytest.mark.parametrize("name", NAMES)
def test_every_form_of_a_picture_is_the_same_picture(run, name):
    wanted = run(name)
    for form, change in FORMS.items():
        try:
            got = run(name, change)
            same(wanted, got)
            assert not any(part.requires_grad for part in flat(got) if isinstance(part, torch.Tensor))
        except Exception as error:
            raise AssertionError(f"{name}, {form}: {type(error).__name__} {error}") from error


@pytest.mark.parametrize("name", NAMES)
def test_grey_pictures_are_grey(run, name):
    wanted = run(name, grey)
    for form, change in GREY.items():
        try:
            same(wanted, run(name, change))
        except Exception as error:
            raise AssertionError(f"{name}, {form}: {type(error).__name__} {error}") from error


@pytest.mark.parametrize("name", ["assemble", "slice"])
def test_the_usual_pictures_are_moved_bit_for_bit(run, name, cases):
    """Values beyond [0, 1] and alpha as well: assembling and slicing only move values."""
    wild = torch.randn_like(cases[name][2]) * 3
    once = run(name, lambda image: wild)[0]
    assert sorted(once.flatten().tolist()) == sorted(wild.flatten().tolist())
    clear = torch.cat([wild, torch.rand_like(wild[..., :1])], dim=-1)
    assert run(name, lambda image: clear)[0].shape[-1] == 4


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", NAMES)
def test_values_that_are_not_finite_are_named(run, cases, name, value):
    field, count = cases[name][1], len(cases[name][2])

    def broken(image):
        image = image.clone()
        image[-1, 3, 4, 1] = value
        return image

    line = rf"^{field} must have finite values, got NaN or infinity in picture {count} of {count}$"
    with pytest.raises(ValueError, match=line):
        run(name, broken)
    with pytest.raises(ValueError, match=line):
        run(name, lambda image: broken(image).to(torch.bfloat16))


@pytest.mark.parametrize(
    "change",
    [lambda i: i[..., :1].expand(-1, -1, -1, 5), lambda i: i[:0], lambda i: i[None], lambda i: i.to(torch.complex64),
     lambda i: i.numpy(), lambda i: i[0, 0, 0], lambda i: i.to(torch.int32) - 5],
)  # fmt: skip
@pytest.mark.parametrize("name", ["assemble", "slice", "check", "condition", "look truth"])
def test_what_is_no_picture_is_one_line(run, cases, name, change):
    with pytest.raises(ValueError, match=f"^{cases[name][1]} (must|of)") as caught:
        run(name, change)
    assert "\n" not in str(caught.value)


MASKS = {
    "usual": lambda mask: mask,
    "one": lambda mask: mask[0],
    "bfloat16": lambda mask: mask.to(torch.bfloat16),
    "bool": lambda mask: mask > 0.5,
    "bytes": lambda mask: mask.to(torch.uint8),
    "channel first": lambda mask: mask[:, None],
    "channel last": lambda mask: mask[..., None],
    "gradients": lambda mask: mask.clone().requires_grad_(True),
    "gpu": lambda mask: mask.as_subclass(OnGpu),
}
TEXT = {"text": "", "units": "pixels", "width": SIDE, "height": SIDE, "stroke_start": "left", "outside": "error"}


@pytest.fixture
def stroke():
    mask = torch.zeros(1, SIDE, SIDE)
    mask[0, 14:17, 4:28] = 1.0
    return mask


@pytest.mark.parametrize("form", MASKS)
def test_every_form_of_a_mask_is_the_same_stroke(comfy, stroke, form):
    wanted = comfy.call("VisualPlannerImportTrajectory", **TEXT, stroke=stroke)[1]
    assert comfy.call("VisualPlannerImportTrajectory", **TEXT, stroke=MASKS[form](stroke))[1] == wanted


@pytest.mark.parametrize(
    ("change", "line"),
    [(lambda m: m * float("nan"), "finite values"), (lambda m: m[0, 0], "shape"), (lambda m: m[:0], "shape"),
     (lambda m: m.repeat(2, 1, 1), "one stroke at a time"), (lambda m: m[..., None].repeat(1, 1, 1, 3), "shape"),
     (lambda m: m.numpy(), "must be a mask")],
)  # fmt: skip
def test_masks_that_are_no_stroke_are_one_line(comfy, stroke, change, line):
    with pytest.raises(ValueError, match=line) as caught:
        comfy.call("VisualPlannerImportTrajectory", **TEXT, stroke=change(stroke))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["bfloat16", "float16", "float64", "gradients", "gpu"])
def test_every_form_of_tracks_is_the_same_path(comfy, form):
    places = torch.tensor([[[4.0, 4.0]], [[9.0, 6.0]], [[20.0, 8.0]]])
    wanted = comfy.call("VisualPlannerImportTrajectory", **TEXT, tracks={"track_path": places})[1]
    for seen in (torch.ones(3, 1, dtype=torch.bool), torch.ones(3, 1).bfloat16(), torch.ones(3, 1).as_subclass(OnGpu)):
        tracks = {"track_path": FORMS[form](places), "track_visibility": seen}
        assert comfy.call("VisualPlannerImportTrajectory", **TEXT, tracks=tracks)[1] == wanted


def test_a_point_that_is_hardly_seen_is_left_out(comfy):
    places = torch.tensor([[[4.0, 4.0]], [[30.0, 30.0]], [[20.0, 8.0]]])
    seen = torch.tensor([[0.9], [0.3], [0.8]])
    numbers = comfy.call(
        "VisualPlannerImportTrajectory", **TEXT, tracks={"track_path": places, "track_visibility": seen}
    )
    truth = {"track_path": places, "track_visibility": seen > 0.5}
    assert numbers[1] == comfy.call("VisualPlannerImportTrajectory", **TEXT, tracks=truth)[1]
    assert "30" not in numbers[1]


def test_a_vae_that_overflows_is_named(comfy, module, tiny_model, random):
    class Overflowing:
        def encode(self, pixels):
            return torch.full((len(pixels), 16, pixels.shape[1] // 8, pixels.shape[2] // 8), float("nan"))

    spec = module("visual_planner.planner.spec").PlannerSpec(**SMALL_SPEC)
    positive = [[torch.zeros(1, 4, 128), {"pooled_output": torch.zeros(1, 64)}]]
    with pytest.raises(ValueError, match="^vae must return finite latents, got NaN or infinity for the first frame"):
        comfy.call("VisualPlannerCondition", model=tiny_model, positive=positive, vae=Overflowing(), spec=spec,
                   first_frame=random(1))  # fmt: skip
