"""What can be read off frames of the simulated table by colour: where the end effector is, which object moved.

The same measurement is applied to true and to planned frames, so that its own error shows in the bound that is
printed beside every result (true frames through the autoencoder).
"""

import cv2
import numpy as np

HUES = {"hand": ((7, 18),), "yellow": ((21, 33),), "green": ((50, 72),), "blue": ((105, 126),), "purple": ((134, 160),),
        "red": ((0, 5), (172, 180))}  # fmt: skip
"OpenCV hue ranges (0 to 180) of the end effector and of the objects' colours."
_SATURATION, _VALUE = 120, 60
_LEAST_HAND_PX, _LEAST_OBJECT_PX = 12, 6
MOVED_PX = 2.0
"An object that is displaced by less counts as static [px]."


def colour_mask(frame: np.ndarray, name: str) -> np.ndarray:
    """Pixels (H, W) bool of a frame (H, W, 3 uint8) that show the end effector or an object of a colour."""
    hue, saturation, value = cv2.split(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2HSV))
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


def hand_positions(frames: np.ndarray) -> np.ndarray:
    """Centres (F, 2) [px] of the end effector, NaN where it cannot be found."""
    found = [centroid(frame, "hand") for frame in frames]
    return np.array([[np.nan, np.nan] if place is None else place for place in found])


def displacement(frames: np.ndarray, color: str) -> float:
    """How far an object is from where it was [px]: last three frames against the first, 0 if it cannot be found."""
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
