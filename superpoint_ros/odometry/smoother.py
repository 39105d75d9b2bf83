"""The back end: the poses of keyframes and the points that they see, estimated together by GTSAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gtsam
import numpy as np

from superpoint_ros.odometry.values import Array, Ids, Observations

_FIXED = 1e-4
"""Standard deviation of poses that are not estimated any more, in radians and in units of the map."""
_WEAK = np.array([0.1, 0.1, 0.1, 1.0, 1.0, 1.0])
"""The same of the predicted motion between two keyframes; it decides only what the images leave open."""
_LOOSE = 4.0
"""Multiple of the maximum error at the predicted pose, before the first estimate."""


@dataclass
class Keyframe:
    """A frame whose pose is estimated: (4, 4) `pose` from its camera to the map, and what it sees."""

    pose: Array
    observations: Observations


class Smoother:
    """Bundle adjustment over the latest keyframes.

    A track is a smart factor (Carlone et al., 2014): its point is triangulated and eliminated inside the factor, so
    that poses are the only unknowns. Keyframes that have left the window keep their pose, which anchors the others.

    Args:
        right_position: (3,) position of the right camera in the left camera's frame, in metres; None for one camera.
        window: number of keyframes that are estimated.
        anchors: number of older keyframes that are kept as they are.
        max_tracks: maximum number of tracks that are used, those seen most often first.
        max_error: maximum reprojection error of an observation, in standard deviations.

    Attributes:
        window: number of keyframes that are estimated.
        keyframes: by number, in order.
        points: (3,) position in the map of each track that is seen from different places, by id.
        step_covariance: (6, 6) of the motion from the keyframe before the last one to it: rotation and translation
            about and along the axes of the last one.
    """

    def __init__(
        self,
        right_position: Array | None = None,
        window: int = 8,
        anchors: int = 5,
        max_tracks: int = 300,
        max_error: float = 4.0,
    ) -> None:
        self.window, self._anchors, self._max_tracks, self._max_error = window, anchors, max_tracks, max_error
        self._cameras = [np.zeros(3)] if right_position is None else [np.zeros(3), right_position]
        self._rig = gtsam.CameraSetPinholePoseCal3_S2()
        for position in self._cameras:
            pose = gtsam.Pose3(gtsam.Rot3(), position)
            self._rig.push_back(gtsam.PinholePoseCal3_S2(pose, gtsam.Cal3_S2(1.0, 1.0, 0.0, 0.0, 0.0)))
        self._params = gtsam.SmartProjectionParams()
        self._params.setDegeneracyMode(gtsam.DegeneracyMode.ZERO_ON_DEGENERACY)
        self._params.setRankTolerance(1e-3)
        self.keyframes: dict[int, Keyframe] = {}
        self.points: dict[int, Array] = {}
        self.step_covariance = np.zeros((6, 6))

    @property
    def latest(self) -> Keyframe:
        """Return the last keyframe."""
        return self.keyframes[max(self.keyframes)]

    def add(self, pose: Array, observations: Observations) -> None:
        """Add a keyframe at a predicted (4, 4) pose and estimate the window again."""
        self.keyframes[max(self.keyframes, default=-1) + 1] = Keyframe(pose, observations)
        for key in sorted(self.keyframes)[: -(self.window + self._anchors)]:
            del self.keyframes[key]
        factors = self._factors()
        for scale in (_LOOSE, 1.0) if len(self.keyframes) > 1 else ():
            changed = self._drop_outliers(factors, scale)
            factors = {track: factor for track, factor in factors.items() if track not in changed}
            factors |= self._factors(changed)
            self._solve(factors)
        self._drop_outliers(factors)

    def locate(self, ids: Ids) -> Array:
        """Return the (N, 3) points of tracks in the map's frame, NaN where there is none."""
        nowhere = np.full(3, np.nan)
        return np.array([self.points.get(track, nowhere) for track in ids.tolist()]).reshape(-1, 3)

    def _solve(self, factors: dict[int, Any]) -> None:
        """Estimate the poses of the window."""
        keys = sorted(self.keyframes)
        free = keys[1:][-self.window :]
        poses = {key: gtsam.Pose3(self.keyframes[key].pose) for key in keys}
        graph, values = gtsam.NonlinearFactorGraph(), gtsam.Values()
        fixed, weak = gtsam.noiseModel.Isotropic.Sigma(6, _FIXED), gtsam.noiseModel.Diagonal.Sigmas(_WEAK)
        for before, key in zip([None, *keys], keys, strict=False):
            values.insert(key, poses[key])
            if key not in free:
                graph.add(gtsam.PriorFactorPose3(key, poses[key], fixed))
            elif before is not None:
                graph.add(gtsam.BetweenFactorPose3(before, key, poses[before].between(poses[key]), weak))
        if len(free) == len(keys) - 1 and len(self._cameras) == 1:
            # One camera sees no scale: the first two keyframes keep their distance until both are fixed.
            distance = poses[keys[0]].range(poses[keys[1]])
            exact = gtsam.noiseModel.Isotropic.Sigma(1, _FIXED)
            graph.add(gtsam.RangeFactorPose3(keys[0], keys[1], distance, exact))
        for factor in sorted(factors.values(), key=lambda factor: -factor.size())[: self._max_tracks]:
            graph.add(factor)
        params = gtsam.LevenbergMarquardtParams()
        params.setMaxIterations(8)
        params.setRelativeErrorTol(1e-4)
        try:
            result = gtsam.LevenbergMarquardtOptimizer(graph, values, params).optimize()
            self.step_covariance = _step_covariance(graph, result, keys[-2:])
        except RuntimeError:  # an ill-posed system: the predicted poses stay
            self.step_covariance = np.diag(_WEAK**2)
            return
        for key in free:
            self.keyframes[key].pose = result.atPose3(key).matrix()

    def _factors(self, tracks: set[int] | None = None) -> dict[int, Any]:
        """Create the factor of each of these tracks, or of all, that is seen from two places."""
        rows: dict[int, list[tuple[int, int, Array, float]]] = {}
        for key, keyframe in self.keyframes.items():
            seen = keyframe.observations
            for camera, rays in enumerate((seen.rays, seen.right_rays)[: len(self._cameras)]):
                known = np.isfinite(rays[:, 0])
                if tracks is not None:
                    known &= np.isin(seen.ids, list(tracks))
                columns = seen.ids[known].tolist(), rays[known], (seen.sigma[known] ** 2).tolist()
                for track, ray, variance in zip(*columns, strict=True):
                    rows.setdefault(track, []).append((key, camera, ray, variance))
        factors: dict[int, Any] = {}
        for track, found in rows.items():
            if len(found) > 1:
                keys, cameras, places, variances = zip(*found, strict=True)
                noise = gtsam.noiseModel.Isotropic.Sigma(2, float(np.sqrt(sum(variances) / len(variances))))
                factors[track] = gtsam.SmartProjectionRigFactorPinholePoseCal3_S2(noise, self._rig, self._params)
                factors[track].add(places, keys, cameras)
        return factors

    def _drop_outliers(self, factors: dict[int, Any], scale: float = 1.0) -> set[int]:
        """Locate all points, and drop observations that are far from the projection of their point.

        Returns:
            The tracks that lost observations.
        """
        values = gtsam.Values()
        for key, keyframe in self.keyframes.items():
            values.insert(key, gtsam.Pose3(keyframe.pose))
        located = ((track, factor.point(values)) for track, factor in factors.items())
        self.points = {track: found.get() for track, found in located if found.valid()}
        changed: set[int] = set()
        for keyframe in self.keyframes.values():
            seen = keyframe.observations
            points = self.locate(seen.ids)
            bad = np.zeros(len(seen), bool)
            for position, rays in zip(self._cameras, (seen.rays, seen.right_rays), strict=False):
                error = np.linalg.norm(project(keyframe.pose, points, position) - rays, axis=1)
                bad |= error > scale * self._max_error * seen.sigma
            changed |= set(seen.ids[bad].tolist())
            keyframe.observations = seen.select(~bad)
        return changed


def _step_covariance(graph: Any, values: Any, keys: list[int]) -> Array:
    """Compute the covariance of the motion between two keyframes, in the tangent space of the later one."""
    first, second = (values.atPose3(key) for key in keys)
    joint = gtsam.Marginals(graph, values).jointMarginalCovariance(gtsam.KeyVector(keys)).fullMatrix()
    change = np.hstack((-second.between(first).AdjointMap(), np.eye(6)))
    return np.asarray(change @ joint @ change.T)


def project(pose: Array, points: Array, position: Array | None = None) -> Array:
    """Project (N, 3) points of the map to (N, 2) normalized points of a camera; NaN behind it.

    Args:
        pose: (4, 4) from the left camera's frame to the map's.
        position: (3,) of the camera in the left camera's frame.
    """
    seen = (points - pose[:3, 3]) @ pose[:3, :3] - (0 if position is None else position)
    return np.asarray(seen[:, :2] / np.where(seen[:, 2:] > 0, seen[:, 2:], np.nan))
