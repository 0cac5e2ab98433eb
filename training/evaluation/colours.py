"""Read off frames of the simulated table by colour where the end effector and the plate are and which object moved.

The same measurement is applied to true and to planned frames, so that its own error shows in the bound that is
printed beside every result (true frames through the autoencoder).
"""

from collections.abc import Sequence

import cv2
import numpy as np

HUES = {"hand": ((7, 18),), "yellow": ((21, 33),), "green": ((50, 72),), "blue": ((105, 126),), "purple": ((134, 160),),
        "red": ((0, 5), (172, 180))}  # fmt: skip
"OpenCV hue ranges (0 to 180) of the end effector and of the objects' colours."
PLATE = "plate"
_PLATE_HSV = (96, 35, 110), (112, 115, 230)
"Lowest and highest hue, saturation and value of the plate, paler than everything else of its hue."
_TABLE_HSV = (0, 0, 150), (180, 40, 255)
"The same of the bare table."
_SATURATION, _VALUE = 120, 60
_LEAST_HAND_PX, _LEAST_OBJECT_PX = 12, 6
_SEEN_SHARE = 0.25
_NEARER = 1e-3
"Cost of a pixel's distance beside that of a wrong pixel: it only decides between equals."
MOVED_PX = 2.0
"An object that is displaced by less than this counts as static [px]."
HUE_TOLERANCE_DEG = 30.0
"""An object whose hue is farther than this from its own has changed its colour [degrees].

Neighbouring colours of the table's objects are 52 degrees or more apart, so an object that is nearer to another one's
colour is beyond it. Of 60 held objects in true frames that went through the tiny planner's autoencoder (seeds from
9700000, used only for this), none was more than 12 degrees off.
"""
_COLOURED_SATURATION, _COLOURED_VALUE = 90, 50
_LEAST_SHARE = 0.15
"An object that shows less than this fraction of its pixels in the first frame is hidden: fingertips are yellow, too."


def colour_mask(frame: np.ndarray, name: str) -> np.ndarray:
    """Pixels (H, W) bool of a frame (H, W, 3 uint8) that show the end effector, the plate, or an object of a colour."""
    picture = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2HSV)
    if name == PLATE:
        return cv2.inRange(picture, *_PLATE_HSV) > 0
    hue, saturation, value = cv2.split(picture)
    near = np.zeros(hue.shape, bool)
    for low, high in HUES[name]:
        near |= (hue >= low) & (hue < high)
    return near & (saturation > _SATURATION) & (value > _VALUE)


def centroid(frame: np.ndarray, name: str) -> np.ndarray | None:
    """Centre (x, y) [px] of the largest blob of that colour, None if there is too little of it."""
    mask = colour_mask(frame, name).astype(np.uint8)
    count, _, stats, centres = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count < 2:
        return None
    best = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    least = _LEAST_HAND_PX if name == "hand" else _LEAST_OBJECT_PX
    return centres[best] + 0.5 if stats[best, cv2.CC_STAT_AREA] >= least else None


def tracked(frames: Sequence[np.ndarray], name: str) -> list[np.ndarray | None]:
    """Centre (x, y) [px] of a thing on the table in each frame (H, W, 3) uint8, even where something partly hides it.

    The shape that the first frame shows is put where it covers the most of the thing's pixels and the least of the
    table's; what shows neither may be in front of it. Of equal places the one nearest to the first counts. None where
    less than a quarter of its pixels can be seen.
    """
    shape, size = _largest(colour_mask(frames[0], name))
    if size < _LEAST_OBJECT_PX:
        return [None] * len(frames)
    left, top, width, height = cv2.boundingRect(shape.astype(np.uint8))
    kernel = shape[top : top + height, left : left + width].astype(np.float32)
    centre = np.argwhere(shape).mean(axis=0) + 0.5
    places = []
    for frame in frames:
        seen = colour_mask(frame, name)
        if seen.sum() < _SEEN_SHARE * size:
            places.append(None)
            continue
        around = np.pad(seen.astype(np.float32) - _table(frame), ((height, height), (width, width)))
        fit = cv2.filter2D(around, -1, kernel, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
        shifts = np.stack(np.indices(fit.shape), axis=-1) - (top + height, left + width)
        fit -= _NEARER * np.linalg.norm(shifts, axis=-1)
        places.append((centre + shifts.reshape(-1, 2)[fit.argmax()])[::-1])
    return places


def hand_positions(frames: np.ndarray) -> np.ndarray:
    """Centres (F, 2) [px] of the end effector, NaN where it cannot be found."""
    found = [centroid(frame, "hand") for frame in frames]
    return np.array([[np.nan, np.nan] if place is None else place for place in found])


def displacement(frames: np.ndarray, color: str) -> float:
    """How far an object has moved [px]: last three frames against the first, 0 if it cannot be found."""
    start = centroid(frames[0], color)
    if start is None:
        return 0.0
    ends = [place for frame in frames[-3:] if (place := centroid(frame, color)) is not None]
    return float(np.median([np.linalg.norm(place - start) for place in ends])) if ends else 0.0


def moved_most(frames: np.ndarray, colors: list[str]) -> str | None:
    """The colour of the object that is displaced most, None if none is displaced by `MOVED_PX`."""
    distances = {color: displacement(frames, color) for color in colors}
    best = max(distances, key=distances.get)
    return best if distances[best] >= MOVED_PX else None


def motion(frames: np.ndarray) -> float:
    """Mean absolute difference of successive frames, in [0, 1]."""
    return float(np.abs(np.diff(frames.astype(np.float32) / 255.0, axis=0)).mean())


def hue_shifts(frames: np.ndarray, first: np.ndarray, colour: str, others: Sequence[str]) -> np.ndarray:
    """How far an object's hue is from that of the first frame (F,) [degrees], 0 to 180; NaN where it is not found.

    It is found without its colour, which may be wrong: where it stood, as long as at least half of that place is
    coloured; otherwise as the largest coloured area that is neither the end effector nor where another object stood.
    Its hue there is the circular median, so shading, highlights and a few stray pixels do not count.

    Args:
        frames: frames of a plan (F, h, w, 3) uint8.
        first: the scene before anything moves (h, w, 3) uint8, from which its place and hue are taken.
        colour: the object's colour.
        others: colours of the scene's other objects.
    """
    place, size = _largest(colour_mask(first, colour))
    if size < _LEAST_OBJECT_PX:
        return np.full(len(frames), np.nan)
    around, rim = (np.ones((2 * max(1, round(first.shape[1] / side)) + 1,) * 2, np.uint8) for side in (32, 64))
    taken = np.zeros_like(place)
    for other in others:
        taken |= cv2.dilate(_largest(colour_mask(first, other))[0].astype(np.uint8), around) > 0
    own, shifts = _hue(first, place), []
    for frame in frames:
        coloured = _coloured(frame)
        seen = coloured & place
        if seen.sum() < size / 2:
            # Rims of the end effector are blurred into the table: yellow, and thinner than an object.
            thick = cv2.morphologyEx((coloured & ~taken).astype(np.uint8), cv2.MORPH_OPEN, rim)
            seen, pixels = _largest(thick)
            if pixels < max(_LEAST_OBJECT_PX, _LEAST_SHARE * size):
                shifts.append(np.nan)
                continue
        shifts.append(abs((_hue(frame, seen) - own + 180) % 360 - 180))
    return np.array(shifts)


def colour_kept(frames: np.ndarray, truth: np.ndarray, colour: str, colours: Sequence[str]) -> dict | None:
    """Whether the held object keeps its colour in a plan: `kept`, `lost` and `hue_shifts_deg` (F - 1).

    The frames after the first in which the truth shows the object are judged. It must be found in all of them (`lost`
    counts those in which it is not), with its hue at most `HUE_TOLERANCE_DEG` from that of the true first frame. Shifts
    are null where it is not judged or not found.

    Args:
        frames: frames of a plan (F, h, w, 3) uint8.
        truth: what really happens (F, h, w, 3) uint8; its first frame is that of the plan.
        colour: colour of the held object; empty if none is held.
        colours: colours of all objects of the scene.

    Returns:
        The figures; None for a colour that is not in `HUES`, or if the truth never shows it.
    """
    if colour not in HUES:
        return None
    others = [other for other in colours if other != colour and other in HUES]
    real, planned = (hue_shifts(part[1:], truth[0], colour, others) for part in (truth, frames))
    judged = ~np.isnan(real)
    if not judged.any():
        return None
    found = judged & ~np.isnan(planned)
    return {
        "kept": bool((planned[judged] <= HUE_TOLERANCE_DEG).all()),  # false where it is lost
        "lost": int((judged & ~found).sum()),
        "hue_shifts_deg": [round(float(s), 1) if use else None for s, use in zip(planned, found, strict=True)],
    }


def _largest(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Largest blob of a mask (H, W) as a mask, and its number of pixels."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count < 2:
        return np.zeros(mask.shape, bool), 0
    best = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    return labels == best, int(stats[best, cv2.CC_STAT_AREA])


def _table(frame: np.ndarray) -> np.ndarray:
    """Pixels (H, W) bool of a frame (H, W, 3 uint8) that show the bare table."""
    return cv2.inRange(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2HSV), *_TABLE_HSV) > 0


def _coloured(frame: np.ndarray) -> np.ndarray:
    """Pixels (H, W) bool of any colour except the end effector's."""
    hue, saturation, value = cv2.split(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2HSV))
    ((low, high),) = HUES["hand"]
    return ((hue < low) | (hue >= high)) & (saturation > _COLOURED_SATURATION) & (value > _COLOURED_VALUE)


def _hue(frame: np.ndarray, mask: np.ndarray) -> float:
    """Circular median of the hue of some pixels [degrees]: the median of deviations from the circular mean."""
    hues = 2.0 * cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2HSV)[..., 0][mask]
    mean = np.rad2deg(np.angle(np.exp(1j * np.deg2rad(hues)).mean()))
    return float(mean + np.median((hues - mean + 180) % 360 - 180))
