"""Inverting the distortion of OpenCV's lens models: pixels -> viewing rays, and NaN where a model has none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import polynomial
from numpy.typing import NDArray

Array = NDArray[np.float64]

_WIDEST = np.tan(np.radians(89.9))
"""Radius at unit depth beyond which no ray of the models other than the fisheye is looked for."""
_STEPS = 10
"""Of Newton's method; four are enough but for pixels beside the limit of what can be inverted."""
_TABLE = 1000
"""Places at which a radial function is tabulated for a first guess."""
_EXACT = 1e-6
"""Distance at unit depth, distorted, by which a ray may miss the pixel that it belongs to."""


def undistorted(pixels: Array, matrix: Array, distortion: Array) -> Array:
    """Undo the distortion of a lens in OpenCV's model for `calib3d`, of up to 14 coefficients.

    Past some radius most of the fitted polynomials turn back, and pixels there belong to two rays or to none. The ray
    of a pixel is the one before the turn.

    Args:
        pixels: (N, 2).
        matrix: (3, 3) camera matrix.
        distortion: coefficients in OpenCV's order, as many as it takes.

    Returns:
        (N, 2) x / z and y / z of the rays, NaN where there is none.
    """
    distorted = _normalised(pixels, matrix)
    if not np.any(distortion):
        return distorted
    lens = _Lens.of(distortion)
    if np.any(lens.tilt):
        untilted = np.column_stack((distorted, np.ones(len(distorted)))) @ np.linalg.inv(_tilting(*lens.tilt)).T
        distorted = untilted[:, :2] / untilted[:, 2:]
    # The radius by the radial part alone is close; what a decentred lens adds is left to Newton's method.
    limit = lens.limit()
    places = np.tan(np.linspace(0, 0.999 * np.arctan(limit), _TABLE))
    radius = np.linalg.norm(distorted, axis=1)
    start = np.interp(radius, places * lens.radial(places * places)[0], places)
    rays = (distorted * (start / np.maximum(radius, 1e-12))[:, None]).T
    with np.errstate(all="ignore"):
        for _ in range(_STEPS):
            found, (a, b, c, d) = lens.distorted(*rays)
            x, y = error = distorted.T - found
            determinant = a * d - b * c
            if not (np.abs(error) > 1e-10).any():
                break
            rays = rays + np.stack((d * x - b * y, a * y - c * x)) / determinant
        held = (np.abs(error) < _EXACT).all(axis=0) & (determinant > 0) & (np.hypot(*rays) < limit)
    return np.where(held, rays, np.nan).T


def undistorted_fisheye(pixels: Array, matrix: Array, distortion: Array) -> Array:
    """Undo the distortion of a lens in OpenCV's model for `fisheye`; see `undistorted`.

    Rays sideways and behind have no place at unit depth and count as none. OpenCV's own function cuts the image off at
    a distorted radius of pi / 2, which lenses with positive coefficients pass well before they look sideways.
    """
    distorted = _normalised(pixels, matrix)
    powers = np.zeros(10)
    powers[1::2] = (1, *distortion[:4])
    slope = polynomial.polyder(powers)
    limit = min(_first_root(slope), np.pi / 2)
    radius = np.linalg.norm(distorted, axis=1)
    radius[radius >= polynomial.polyval(limit, powers)] = np.nan
    places = np.linspace(0, limit, _TABLE)
    angle = np.interp(radius, polynomial.polyval(places, powers), places)
    with np.errstate(all="ignore"):
        for _ in range(_STEPS):
            error = polynomial.polyval(angle, powers) - radius
            if not (np.abs(error) > 1e-12).any():
                break
            angle = np.clip(angle - error / polynomial.polyval(angle, slope), 0, limit)
    straight = radius < 1e-12
    return np.asarray(distorted * np.where(straight, 1, np.tan(angle) / np.where(straight, 1, radius))[:, None])


def _normalised(pixels: Array, matrix: Array) -> Array:
    return np.asarray((pixels - matrix[:2, 2]) / (matrix[0, 0], matrix[1, 1]))


@dataclass(frozen=True)
class _Lens:
    """The coefficients of OpenCV's model by what they are for.

    Attributes:
        upper, lower: (4,) numerator and denominator of the radial factor, as polynomials of the squared radius.
        decentring: p1 and p2.
        prism: s1 to s4.
        tilt: angles of the sensor about x and y, in radians.
    """

    upper: Array
    lower: Array
    decentring: Array
    prism: Array
    tilt: Array

    @staticmethod
    def of(coefficients: Array) -> _Lens:
        k1, k2, p1, p2, k3, k4, k5, k6, *others = np.append(coefficients, np.zeros(14))[:14]
        arrays = (1, k1, k2, k3), (1, k4, k5, k6), (p1, p2), others[:4], others[4:]
        return _Lens(*(np.array(values, np.float64) for values in arrays))

    def radial(self, square: Array) -> tuple[Array, Array]:
        """The radial factor at squared radii, and its derivative by them."""
        (upper, bent_up), (lower, bent_down) = (
            (polynomial.polyval(square, part), polynomial.polyval(square, part[1:] * (1, 2, 3)))
            for part in (self.upper, self.lower)
        )
        return upper / lower, (bent_up * lower - upper * bent_down) / lower**2

    def distorted(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Distort rays at unit depth, but for the tilt: (2, N) places u, v, and (4, N) u_x, u_y, v_x, v_y."""
        square = x * x + y * y
        factor, bend = self.radial(square)
        (p1, p2), (s1, s2, s3, s4) = self.decentring, self.prism
        u = x * factor + 2 * p1 * x * y + p2 * (square + 2 * x * x) + square * (s1 + s2 * square)
        v = y * factor + p1 * (square + 2 * y * y) + 2 * p2 * x * y + square * (s3 + s4 * square)
        across = 2 * x * y * bend + 2 * p1 * x + 2 * p2 * y
        aside, down = 2 * (s1 + 2 * s2 * square), 2 * (s3 + 2 * s4 * square)
        derivatives = (
            factor + 2 * x * x * bend + 2 * p1 * y + 6 * p2 * x + aside * x,
            across + aside * y,
            across + down * x,
            factor + 2 * y * y * bend + 6 * p1 * y + 2 * p2 * x + down * y,
        )
        return np.stack((u, v)), np.stack(derivatives)

    def limit(self) -> float:
        """The radius up to which the radial part grows."""
        # The numerator of d/dr (r upper / lower).
        bent = polynomial.polysub(
            polynomial.polymul(polynomial.polyder(self.upper), self.lower),
            polynomial.polymul(self.upper, polynomial.polyder(self.lower)),
        )
        slope = polynomial.polyadd(polynomial.polymul(self.upper, self.lower), polynomial.polymul((0, 2), bent))
        return min(float(np.sqrt(min(_first_root(slope), _first_root(self.lower)))), float(_WIDEST))


def _tilting(about_x: float, about_y: float) -> Array:
    """The (3, 3) homography from the plane across the optical axis to a tilted sensor's (Scheimpflug)."""
    (cx, cy), (sx, sy) = np.cos((about_x, about_y)), np.sin((about_x, about_y))
    turn = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]]) @ np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    return np.array([[turn[2, 2], 0, -turn[0, 2]], [0, turn[2, 2], -turn[1, 2]], [0, 0, 1]]) @ turn


def _first_root(coefficients: NDArray[np.floating]) -> float:
    """The smallest positive real root of a polynomial, or infinity."""
    roots = polynomial.polyroots(np.trim_zeros(np.asarray(coefficients, np.float64), "b"))
    real = roots.real[(np.abs(roots.imag) < 1e-9 * np.abs(roots)) & (roots.real > 0)]
    return float(real.min(initial=np.inf))
