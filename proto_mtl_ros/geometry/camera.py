# SPDX-License-Identifier: Apache-2.0
"""A calibrated camera that follows every resize, crop, pad and flip of its image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from proto_mtl_ros.geometry.distortion import (
    checked_distortion,
    distort_rays,
    driver_distortion,
    flipped_distortion,
    is_distorting,
    ray_table,
)

FloatArray = npt.NDArray[np.float64]

# Numbers beyond these are no camera of this world, and would overflow on the way.
_SMALLEST_FOCAL_LENGTH, _LARGEST = 1e-6, 1e9


@dataclass(frozen=True, eq=False)
class Camera:
    """A camera: K float64 [3, 3] maps a distorted ray (x, y, 1) to pixels; P float64 [3, 4] maps
    points to the pixels of the rectified image; D has OpenCV's order, for the models ``plumb_bob``,
    ``rational_polynomial`` and ``equidistant``. ``approximate``: what of a camera_info could not be
    used, so that rays are those of a pinhole. ValueError where the numbers cannot be a camera.
    """

    K: FloatArray
    width: int
    height: int
    D: FloatArray | None = None
    P: FloatArray | None = None
    distortion_model: str = ""
    approximate: str = ""

    def __post_init__(self) -> None:
        if int(self.width) < 1 or int(self.height) < 1:
            raise ValueError(f"image size {self.width}x{self.height} is not positive")
        projection = None if self.P is None else _checked_matrix("P", self.P, (3, 4))
        distortion = checked_distortion(self.distortion_model, self.D)
        checked = {"K": _checked_matrix("K", self.K, (3, 3)), "P": projection, "D": distortion}
        size = {"width": int(self.width), "height": int(self.height)}
        for name, value in {**checked, **size}.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_info(
        cls,
        height: int,
        width: int,
        K: Sequence[float],
        D: Sequence[float] = (),
        P: Sequence[float] = (),
        distortion_model: str = "",
        binning_x: int = 0,
        binning_y: int = 0,
        roi: tuple[int, int, int, int] = (0, 0, 0, 0),
        rectified: bool = False,
    ) -> Camera | None:
        """Camera of the delivered image from the fields of a sensor_msgs/CameraInfo; None when K[0]
        is 0, an uncalibrated camera. ValueError where K cannot be one; of what else cannot be used
        ``approximate`` tells.

        The calibration is that of the full sensor. The region of interest (x, y, height, width, all
        0 meaning everything) is in unbinned pixels and comes first, unless it is as large as the
        camera, whose matrix is its own then. Then binning divides (0 means 1). Binned pixels keep
        their centres, which is half a binned pixel more exact than dividing cx. Of a rectified
        image P[:3, :3] holds and D does not; a P of zeros is read as K.
        """
        matrix = np.asarray(K, np.float64).reshape(-1)
        if matrix.size != 9:
            raise ValueError(f"K has {matrix.size} values, 9 are needed")
        if matrix[0] == 0:
            return None
        problems = []
        values, projection = np.asarray(P, np.float64).reshape(-1), None
        try:
            if values.any():
                projection = _checked_matrix("P", values.reshape(3, 4), (3, 4))
        except ValueError as error:
            problems.append(str(error))
        coefficients, model = None, ""
        if not rectified:
            try:
                model, coefficients = driver_distortion(distortion_model, D)
                checked_distortion(model, coefficients)
            except ValueError as error:
                problems.append(str(error))
                coefficients, model = None, ""
        camera = cls(matrix.reshape(3, 3), width, height, coefficients, projection, model)
        if rectified and projection is not None:
            camera = camera.rectified()
        x, y, roi_height, roi_width = (int(value) for value in roi)
        own = (roi_width, roi_height) == (width, height)
        if (x, y, roi_height, roi_width) != (0, 0, 0, 0) and not own:
            # A driver may give an offset alone: then the window reaches to the sensor's edge.
            try:
                camera = camera.cropped(x, y, roi_width or width - x, roi_height or height - y)
            except ValueError as error:
                problems.append(f"region of interest: {error}")
        camera = replace(camera, approximate="; ".join(problems))
        bin_x, bin_y = max(int(binning_x), 1), max(int(binning_y), 1)
        if (bin_x, bin_y) != (1, 1):
            camera = camera._binned(bin_x, bin_y)
        return camera

    @property
    def fx(self) -> float:
        return float(self.K[0, 0])

    @property
    def fy(self) -> float:
        return float(self.K[1, 1])

    @property
    def cx(self) -> float:
        return float(self.K[0, 2])

    @property
    def cy(self) -> float:
        return float(self.K[1, 2])

    @property
    def distorted(self) -> bool:
        """Whether rays bend: an equidistant lens does even with coefficients of 0."""
        return is_distorting(self.distortion_model, self.D)

    def resized(self, width: int, height: int) -> Camera:
        """Camera of the image resized to width x height: c' = (c + 0.5) s - 0.5."""
        return self._mapped(_scaling(width / self.width, height / self.height), width, height)

    def fitted(self, width: int, height: int) -> Camera | None:
        """Camera of an image of another size but the same shape; None where the shape differs."""
        if (self.width, self.height) == (width, height):
            return self
        same = abs(self.width * height - self.height * width) <= max(width, height)
        return self.resized(width, height) if same else None

    def cropped(self, x: int, y: int, width: int, height: int) -> Camera:
        """Camera of the window with (x, y) as upper left pixel; ValueError outside of the image."""
        inside = x >= 0 and y >= 0 and x + width <= self.width and y + height <= self.height
        if not inside or width < 1 or height < 1:
            raise ValueError(
                f"window {width}x{height} at ({x}, {y}) is not inside {self.width}x{self.height}"
            )
        return self._mapped(_translation(-x, -y), width, height)

    def padded(self, left: int, top: int, right: int, bottom: int) -> Camera:
        """Camera of the image with so many pixels added on each side."""
        return self._mapped(
            _translation(left, top), self.width + left + right, self.height + top + bottom
        )

    def flipped(self) -> Camera:
        """Camera that sees the mirrored scene: columns reversed and x of every point negated."""
        flip = np.array([[-1.0, 0.0, self.width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        matrix = flip @ self.K @ np.diag([-1.0, 1.0, 1.0])
        projection = None if self.P is None else flip @ self.P @ np.diag([-1.0, 1.0, 1.0, 1.0])
        return replace(
            self, K=matrix, P=projection, D=flipped_distortion(self.distortion_model, self.D)
        )

    def rectified(self) -> Camera:
        """Camera of the rectified image: P[:3, :3] without distortion; K where P is unknown."""
        matrix = self.K if self.P is None else self.P[:, :3]
        return Camera(matrix, self.width, self.height, None, self.P)

    def rays(self) -> npt.NDArray[np.float32]:
        """Undistorted viewing rays (x, y, 1), float32 [H, W, 3], read-only and cached.

        NaN where the lens model has no ray: outside its domain, or 90 degrees or more off axis.
        """
        bent = b"" if self.D is None else self.D.tobytes()
        return ray_table(self.K.tobytes(), self.width, self.height, self.distortion_model, bent)

    def project(self, points: npt.ArrayLike) -> FloatArray:
        """Pixels (u, v), float64 [..., 2], of points [..., 3]; NaN for those with z <= 0."""
        points = np.asarray(points, np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            xy = np.where(points[..., 2:] > 0, points[..., :2] / points[..., 2:], np.nan)
        xy = distort_rays(xy, self.distortion_model, self.D)
        return xy @ self.K[:2, :2].T + self.K[:2, 2]

    def _binned(self, bin_x: int, bin_y: int) -> Camera:
        """Camera after averaging bin_x x bin_y pixels; what does not fill a bin is cut off."""
        width, height = self.width // bin_x, self.height // bin_y
        if width < 1 or height < 1:
            raise ValueError(f"binning {bin_x}x{bin_y} leaves nothing of the image")
        return self._mapped(_scaling(1 / bin_x, 1 / bin_y), width, height)

    def _mapped(self, transform: FloatArray, width: int, height: int) -> Camera:
        """Camera whose pixels are ``transform`` [3, 3] applied to this one's."""
        projection = None if self.P is None else transform @ self.P
        return replace(self, K=transform @ self.K, width=width, height=height, P=projection)


def canonical_factor(fx: float, canonical_fx: float) -> float:
    """Factor from the network's canonical depth to metres: depth = raw * factor, with fx in pixels
    at the network's input.
    """
    return fx / canonical_fx


def _scaling(scale_x: float, scale_y: float) -> FloatArray:
    """Pixel transform of a resize, [3, 3]."""
    x, y = 0.5 * scale_x - 0.5, 0.5 * scale_y - 0.5
    return np.array([[scale_x, 0.0, x], [0.0, scale_y, y], [0.0, 0.0, 1.0]])


def _translation(x: float, y: float) -> FloatArray:
    """Pixel transform that adds (x, y), [3, 3]."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def _checked_matrix(name: str, matrix: npt.ArrayLike, shape: tuple[int, int]) -> FloatArray:
    """Read-only float64 copy, [shape], with positive focal lengths and a last row of 0 0 1."""
    array = np.array(matrix, np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, {shape} is needed")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has values that are not finite")
    if array[0, 0] <= 0 or array[1, 1] <= 0:
        raise ValueError(
            f"{name} has focal lengths {array[0, 0]:g} and {array[1, 1]:g}, which must be positive"
        )
    if min(array[0, 0], array[1, 1]) < _SMALLEST_FOCAL_LENGTH or np.abs(array).max() > _LARGEST:
        raise ValueError(f"{name} has values that are far too small or large for pixels")
    if not np.array_equal(array[2, :3], (0.0, 0.0, 1.0)) or array[1, 0] != 0:
        raise ValueError(f"{name} is not a camera matrix: its lower rows must be 0 fy cy, 0 0 1")
    array.setflags(write=False)
    return array
