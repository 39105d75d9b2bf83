"""Invert the distortion of OpenCV's lens models: pixels to viewing rays, or NaN where a model has none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import polynomial
from numpy.typing import NDArray

from superpoint_ros.two_view.geometry import project

Array = NDArray[np.float64]

_MAX_RADIUS = np.tan(np.radians(89.9))
"""Maximum radius of rays at unit depth, for models other than the fisheye."""
_MAX_ITERATIONS = 10
"""Iterations of Newton's method; four suffice except for pixels close to the invertible limit."""
_TABLE = 1000
"""Number of samples of a radial function, for the initial guess."""
_TOLERANCE = 1e-6
"""Maximum error of a ray's distorted position, at unit depth."""


def undistort(pixels: Array, matrix: Array, distortion: Array) -> Array:
    """Undistort pixels of OpenCV's `calib3d` model, with up to 14 coefficients.

    Beyond some radius most of the fitted polynomials decrease, so pixels there have two rays or none; the ray inside
    that radius is returned.

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
    lens = _Lens.from_coefficients(distortion)
    if np.any(lens.tilt):
        distorted = project(np.linalg.inv(_tilt_homography(*lens.tilt)), distorted)
    # Pixels that no ray can reach would cost all others their iterations.
    limit, rays = lens.limit(), np.full_like(distorted, np.nan)
    inside = ~(np.linalg.norm(distorted, axis=1) > lens.reach(limit))
    rays[inside] = _solve(lens, distorted[inside], limit)
    return rays


def _solve(lens: _Lens, distorted: Array, limit: float) -> Array:
    """Find the (N, 2) rays within the radius `limit` that a lens shows at distorted positions, NaN where there is none.

    The radial part gives an initial guess; Newton's method solves for the tangential part.
    """
    samples = np.tan(np.linspace(0, 0.999 * np.arctan(limit), _TABLE))
    radius = np.linalg.norm(distorted, axis=1)
    start = np.interp(radius, samples * lens.radial(samples * samples)[0], samples)
    rays = (distorted * (start / np.maximum(radius, 1e-12))[:, None]).T
    with np.errstate(all="ignore"):
        for _ in range(_MAX_ITERATIONS):
            found, (a, b, c, d) = lens.distort(*rays)
            x, y = error = distorted.T - found
            determinant = a * d - b * c
            if not (np.abs(error) > 1e-10).any():
                break
            rays = rays + np.stack((d * x - b * y, a * y - c * x)) / determinant
        converged = (np.abs(error) < _TOLERANCE).all(axis=0) & (determinant > 0) & (np.hypot(*rays) < limit)
    return np.where(converged, rays, np.nan).T


def undistort_fisheye(pixels: Array, matrix: Array, distortion: Array) -> Array:
    """Undistort pixels of OpenCV's `fisheye` model; see `undistort`.

    Rays at 90 degrees or more from the optical axis have no position at unit depth and count as none. OpenCV's own
    function clips at a distorted radius of pi / 2, which lenses with positive coefficients exceed well below 90
    degrees.
    """
    distorted = _normalised(pixels, matrix)
    powers = np.zeros(10)
    powers[1::2] = (1, *distortion[:4])
    slope = polynomial.polyder(powers)
    limit = min(_first_root(slope), np.pi / 2)
    radius = np.linalg.norm(distorted, axis=1)
    radius[radius >= polynomial.polyval(limit, powers)] = np.nan
    samples = np.linspace(0, limit, _TABLE)
    angle = np.interp(radius, polynomial.polyval(samples, powers), samples)
    with np.errstate(all="ignore"):
        for _ in range(_MAX_ITERATIONS):
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
    """The coefficients of OpenCV's model by their purpose.

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
    def from_coefficients(coefficients: Array) -> _Lens:
        k1, k2, p1, p2, k3, k4, k5, k6, *others = np.append(coefficients, np.zeros(14))[:14]
        arrays = (1, k1, k2, k3), (1, k4, k5, k6), (p1, p2), others[:4], others[4:]
        return _Lens(*(np.array(values, np.float64) for values in arrays))

    def radial(self, square: Array) -> tuple[Array, Array]:
        """Compute the radial factor at squared radii, and its derivative with respect to them."""
        (upper, bent_up), (lower, bent_down) = (
            (polynomial.polyval(square, part), polynomial.polyval(square, part[1:] * (1, 2, 3)))
            for part in (self.upper, self.lower)
        )
        return upper / lower, (bent_up * lower - upper * bent_down) / lower**2

    def distort(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Distort rays, without the tilt: (2, N) positions u, v, and derivatives (4, N) u_x, u_y, v_x, v_y."""
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
        """Compute the radius up to which the radial part increases."""
        # The numerator of d/dr (r upper / lower).
        bent = polynomial.polysub(
            polynomial.polymul(polynomial.polyder(self.upper), self.lower),
            polynomial.polymul(self.upper, polynomial.polyder(self.lower)),
        )
        slope = polynomial.polyadd(polynomial.polymul(self.upper, self.lower), polynomial.polymul((0, 2), bent))
        return min(float(np.sqrt(min(_first_root(slope), _first_root(self.lower)))), float(_MAX_RADIUS))

    def reach(self, limit: float) -> float:
        """Compute a bound of the distorted radii of rays within the radius `limit`, for lenses without tilt."""
        # Each component of the tangential part is at most 3 p r^2 for either p.
        others = 3 * np.abs(self.decentring).sum() * limit**2
        others += np.abs(self.prism) @ (limit**2, limit**4, limit**2, limit**4)
        with np.errstate(all="ignore"):
            return float(limit * self.radial(np.square(limit))[0] + np.sqrt(2) * others)


def _tilt_homography(about_x: float, about_y: float) -> Array:
    """Compute the (3, 3) homography from the plane normal to the optical axis to a tilted sensor's (Scheimpflug)."""
    (cx, cy), (sx, sy) = np.cos((about_x, about_y)), np.sin((about_x, about_y))
    turn = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]]) @ np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    return np.array([[turn[2, 2], 0, -turn[0, 2]], [0, turn[2, 2], -turn[1, 2]], [0, 0, 1]]) @ turn


def _first_root(coefficients: NDArray[np.floating]) -> float:
    """Find the smallest positive real root of a polynomial, or infinity."""
    roots = polynomial.polyroots(np.trim_zeros(np.asarray(coefficients, np.float64), "b"))
    real = roots.real[(np.abs(roots.imag) < 1e-9 * np.abs(roots)) & (roots.real > 0)]
    return float(real.min(initial=np.inf))
