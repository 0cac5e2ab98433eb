"""A camera as the read-out knows it: from places in its picture and distances to metres, and back."""

from dataclasses import dataclass

import numpy as np

from ..errors import ReadoutError, brief

THIRDS = ("depth", "height")
"""What may accompany a place in the picture: the distance along the optical axis [m], or z in the robot's frame [m].

Where a camera is moved, the same place in its picture at the same height is found by the rays alone; its distance would
have to be estimated again.
"""
LEAST_FALL_DEG = 6
MOST_M = 1e6
"""Largest number of a camera: with larger ones its matrix has no inverse in floating point."""


@dataclass(frozen=True)
class View:
    """A pinhole camera as an affine map: a point is `eye + depth * rays @ (u, v, 1)`.

    Args:
        eye_m: the camera's place in the robot's frame (x, y, z) [m].
        rays: 3x3 rows; columns are the right, down and forward directions, scaled so that u and v run from 0 to 1
            over the picture's width and height and `depth` is the distance along the optical axis [m].

    Raises:
        ReadoutError: not 3 and 3x3 finite numbers, or rays in one plane.
    """

    eye_m: tuple[float, float, float]
    rays: tuple[tuple[float, float, float], ...]

    def __post_init__(self) -> None:
        try:
            eye, rays = np.asarray(self.eye_m, dtype=np.float64), np.asarray(self.rays, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            eye = rays = np.zeros(0)
        if eye.shape == (3,) and rays.shape == (3, 3) and not max(np.abs(eye).max(), np.abs(rays).max()) <= MOST_M:
            eye = np.zeros(0)
        whole = eye.shape == (3,) and rays.shape == (3, 3) and np.isfinite(eye).all() and np.isfinite(rays).all()
        if not whole or abs(np.linalg.det(rays)) < 1e-9:
            raise ReadoutError(
                f"a view must have eye_m of 3 and invertible rays of 3x3 finite numbers, "
                f"got {brief(self.eye_m)} and {brief(self.rays)}"
            )
        object.__setattr__(self, "eye_m", tuple(eye.tolist()))
        object.__setattr__(self, "rays", tuple(map(tuple, rays.tolist())))

    def place(self, seen: np.ndarray, third: str = "depth") -> np.ndarray:
        """Points (..., 3) [m] of what is seen (..., 3): u, v and depth or height [m] (see `THIRDS`)."""
        u, v, last = np.moveaxis(np.asarray(seen, dtype=np.float64), -1, 0)
        rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.asarray(self.rays).T
        depth = last if third == "depth" else (last - self.eye_m[2]) / rays[..., 2]
        return np.asarray(self.eye_m) + depth[..., None] * rays

    def see(self, points_m: np.ndarray, third: str = "depth") -> np.ndarray:
        """The inverse of `place`: u, v and depth or height [m] (..., 3) of points (..., 3) [m]."""
        points = np.asarray(points_m, dtype=np.float64)
        scaled = (points - np.asarray(self.eye_m)) @ np.linalg.inv(self.rays).T
        depth = scaled[..., 2:]
        return np.concatenate([scaled[..., :2] / depth, depth if third == "depth" else points[..., 2:]], axis=-1)

    def shaped(self, height: int, width: int) -> "View":
        """The view of pictures (height, width) from the same camera, this one being that of square pictures.

        The vertical field of view stays; the picture is wider or narrower.
        """
        if height == width:
            return self
        rays = np.asarray(self.rays)
        across, along, corner = rays.T
        forward, wider = corner + (across + along) / 2, across * width / height
        return View(self.eye_m, np.stack([wider, along, forward - (wider + along) / 2], axis=1))

    def shifted(self, across: float, down: float) -> "View":
        """The view of pictures shifted by these fractions of their sides, as if the camera were turned a little."""
        rays = np.asarray(self.rays)
        return View(self.eye_m, np.stack([rays[:, 0], rays[:, 1], rays @ (-across, -down, 1.0)], axis=1))

    @property
    def steady(self) -> str:
        """The more accurate of `THIRDS`: "height", or "depth" if a ray meets a height nowhere or only far away."""
        return "height" if self._least_fall_deg() >= LEAST_FALL_DEG else "depth"

    def check_heights(self) -> None:
        """Raise ReadoutError unless every ray of the picture comes down, so that a height is met in one place."""
        if self.steady != "height":
            raise ReadoutError(
                f"heights can be read only where the camera looks down on all of its picture by at least "
                f"{LEAST_FALL_DEG} degrees, here {self._least_fall_deg():.0f}"
            )

    def _least_fall_deg(self) -> float:
        """How steeply the flattest ray of the picture comes down [degrees]."""
        corners = np.array([(u, v, 1.0) for u in (0, 1) for v in (0, 1)]) @ np.asarray(self.rays).T
        return float(np.degrees(np.arcsin(-corners[:, 2] / np.linalg.norm(corners, axis=1))).min())
