"""Visual odometry from what the detector publishes: tracks in, poses out.

`Odometry.register` is the whole algorithm; `motion` and `smoother` are its two halves.
"""

from __future__ import annotations

from dataclasses import replace

import gtsam
import numpy as np

from superpoint_ros.features import Scene, Status
from superpoint_ros.odometry.motion import Location, locate_camera, start, turn_of
from superpoint_ros.odometry.smoother import Smoother
from superpoint_ros.odometry.values import Array, Estimate, Frame, Ids, Settings, State
from superpoint_ros.two_view.matching import match

_NEW_KEYFRAME = 0.1
"""Median displacement of the tracks since the last keyframe that asks for a new one, in normalized units."""
_KEPT = 0.7
"""Fraction of the last keyframe's points below which a new one is asked for."""
_MIN_SHARE = 0.4
"""Minimum share of the known points that agree on a pose; usually it is 0.8 or more."""
_HISTORY = 60
"""Maximum number of frames in which a single camera's first parallax is waited for."""
_EPOCH_BITS = 40
"""Track ids of a detector are below this power of two, so that those of a restarted one can be told apart."""


class Odometry:
    """Follows the camera through frames in order."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self.reset()

    def configure(self, settings: Settings) -> None:
        """Use other settings from the next frame on."""
        self._settings = settings
        if self._map is not None:
            self._map.window = settings.window

    def reset(self) -> None:
        """Start again at the origin."""
        self._pose = self._keyframe_pose = np.eye(4)
        self._drift = np.zeros((6, 6))  # of the last keyframe: rotation and translation along its own axes
        self._epoch = 0
        self.restart()

    def restart(self) -> None:
        """Forget the map; the next one starts where the camera was last."""
        self._map: Smoother | None = None
        self._metric = False
        self._history: list[Frame] = []
        self._keyframe: Frame | None = None
        self._aliases: dict[int, int] = {}
        self._lost_since: int | None = None

    def register(self, frame: Frame) -> Estimate:
        """Estimate the pose of a frame, which must be later than all before it."""
        frame = self._with_known_ids(frame)
        before = self._keyframe or (self._history[0] if self._history else None)
        if before is not None and not _same_rig(before, frame):
            self.restart()
        if self._map is None:
            return self._initialise(frame)
        # The tracks of known points say where the camera is; where they end, the points' descriptors do.
        location = self._locate(frame)
        if location is None:
            frame = self._recognise(frame)
            location = self._locate(frame)
        # Where no points are known, a turning camera can still be followed.
        if location is None:
            location = self._turn(frame)
        if location is None:
            return self._lose(frame)
        self._pose, self._lost_since = location.pose, None
        points = int(np.count_nonzero(location.inliers))
        covariance = self._covariance() + location.covariance
        # Keyframes and all their points are then estimated together.
        keyframe = self._needs_keyframe(frame, points)
        if keyframe:
            self._add_keyframe(frame, location)
            covariance = self._covariance()
        self._history = [frame]
        reason = "" if points else "the camera only turns among points of unknown depth"
        own = location.covariance
        return Estimate(
            frame.stamp, State.TRACKING, self._pose, covariance, self._metric, points, reason, own, keyframe
        )

    def _with_known_ids(self, frame: Frame) -> Frame:
        """Give tracks that were recognised their former ids, and those of a restarted detector others than before."""
        if frame.status is Status.FIRST_FRAME:
            self._epoch += 1
        ids = frame.observations.ids + (self._epoch << _EPOCH_BITS)
        self._aliases = {track: self._aliases[track] for track in ids.tolist() if track in self._aliases}
        return self._with_aliases(frame, ids)

    def _with_aliases(self, frame: Frame, ids: Ids) -> Frame:
        ids = np.array([self._aliases.get(track, track) for track in ids.tolist()], np.int64)
        return replace(frame, observations=replace(frame.observations, ids=ids))

    def _initialise(self, frame: Frame) -> Estimate:
        """Start a map: at once from stereo, else as soon as two frames have enough parallax."""
        self._history.append(frame)
        if frame.right_position is not None:
            started = self._start_stereo(frame)
            reason = f"fewer than {self._settings.min_points} stereo matches"
        else:
            started = self._start_single(frame)
            reason = "the camera has not moved enough to tell depth"
        state, reason = (State.TRACKING, "") if started else (State.INITIALISING, reason)
        return Estimate(
            frame.stamp, state, self._pose, self._covariance(), self._metric, reason=reason, keyframe=started
        )

    def _start_stereo(self, frame: Frame) -> bool:
        if np.count_nonzero(np.isfinite(frame.observations.right_rays[:, 0])) < self._settings.min_points:
            return False
        self._map, self._metric = Smoother(frame.right_position, self._settings.window), True
        self._map.add(self._pose, frame.observations)
        self._keyframe, self._keyframe_points = frame, len(self._map.points)
        return True

    def _start_single(self, frame: Frame) -> bool:
        history = self._history = self._history[-_HISTORY:]
        first, middle = history[0], history[len(history) // 2]
        ids = _common(first, middle, frame)
        if len(ids) < 2 * self._settings.min_points:
            # The oldest frame shares too little with this one, so a later one is the first from now on.
            self._history = history[max(1, len(history) // 2) :]
            return False
        if len(history) < 3:
            return False
        one, two, three = (_rays(each, ids) for each in (first, middle, frame))
        planar = all(each.scene is not Scene.GENERAL for each in history[1:])
        found = start(one, two, three, self._settings.max_error / frame.focal_length, planar)
        if found is None:
            return False
        scale = (self._settings.start_depth or 1.0) / float(np.nanmedian(found.points[:, 2]))
        self._metric = self._settings.start_depth > 0
        if first.travelled is not None and frame.travelled is not None and frame.travelled > first.travelled:
            scale, self._metric = frame.travelled - first.travelled, True
        self._map = Smoother(None, self._settings.window)
        for pose, each in ((np.eye(4), first), (found.middle, middle), (found.last, frame)):
            pose[:3, 3] *= scale
            self._map.add(self._pose @ pose, each.observations)
        self._pose = self._keyframe_pose = self._map.latest.pose
        self._keyframe, self._keyframe_points = frame, len(self._map.points)
        return True

    def _locate(self, frame: Frame) -> Location | None:
        """Estimate the pose from the tracks of known points."""
        assert self._map is not None
        seen = frame.observations
        points = self._map.locate(seen.ids)
        known = np.isfinite(points[:, 0])
        threshold = self._settings.max_error / frame.focal_length
        found = locate_camera(points[known], seen.rays[known], seen.sigma[known], threshold)
        least = max(self._settings.min_points, _MIN_SHARE * np.count_nonzero(known))
        if found is None or np.count_nonzero(found.inliers) < least:
            return None
        inliers = np.zeros(len(seen), bool)
        inliers[np.flatnonzero(known)[found.inliers]] = True
        return replace(found, inliers=inliers)

    def _recognise(self, frame: Frame) -> Frame:
        """Find the last keyframe's points again by their descriptors, and remember which tracks continue them."""
        keyframe = self._keyframe
        if keyframe is None or keyframe.weights != frame.weights:
            return frame
        ids, former = frame.observations.ids, keyframe.observations.ids
        taken = set(ids.tolist())
        for before, now in match(keyframe.features, frame.features).indices.tolist():
            if int(former[before]) not in taken:
                self._aliases[int(ids[now])] = int(former[before])
        return self._with_aliases(frame, ids)

    def _turn(self, frame: Frame) -> Location | None:
        """Estimate the rotation since the previous frame, if the camera was not lost in it and only turns."""
        if self._lost_since is not None or not self._history:
            return None
        before = self._history[-1]
        ids = _common(before, frame)
        if len(ids) < 2 * self._settings.min_points:
            return None
        threshold = self._settings.max_error / frame.focal_length
        rotation = turn_of(_rays(before, ids), _rays(frame, ids), threshold)
        if rotation is None:
            return None
        pose = self._pose.copy()
        pose[:3, :3] = pose[:3, :3] @ rotation.T
        return Location(pose, np.zeros(len(frame.observations), bool), np.zeros((6, 6)))

    def _lose(self, frame: Frame) -> Estimate:
        """Wait for known points, and start another map if they stay away."""
        if self._lost_since is None:
            self._lost_since = frame.stamp
        reason = f"fewer than {self._settings.min_points} known points are seen"
        if frame.stamp - self._lost_since > self._settings.lost_after * 1e9:
            reason += f" for {self._settings.lost_after:g} s, so another map is started here"
            self.restart()
        return Estimate(frame.stamp, State.LOST, self._pose, self._covariance(), self._metric, 0, reason)

    def _covariance(self) -> Array:
        """Return the (6, 6) covariance of the last keyframe's pose, as `Estimate` has it."""
        axes = np.zeros((6, 6))
        axes[:3, 3:] = axes[3:, :3] = self._keyframe_pose[:3, :3]
        return np.asarray(axes @ self._drift @ axes.T)

    def _needs_keyframe(self, frame: Frame, points: int) -> bool:
        assert self._keyframe is not None
        ids = _common(self._keyframe, frame)
        if points < _KEPT * self._keyframe_points or len(ids) < self._settings.min_points:
            return True
        moved = np.linalg.norm(_rays(self._keyframe, ids) - _rays(frame, ids), axis=1)
        return float(np.median(moved)) > _NEW_KEYFRAME

    def _add_keyframe(self, frame: Frame, location: Location) -> None:
        """Add the frame to the map without its outliers."""
        assert self._map is not None
        seen = frame.observations
        known = np.isfinite(self._map.locate(seen.ids)[:, 0])
        good = ~known | location.inliers if location.inliers.any() else np.ones(len(seen), bool)
        self._map.add(location.pose, seen.select(good))
        before, self._pose = self._keyframe_pose, self._map.latest.pose
        carry = gtsam.Pose3(np.linalg.inv(self._pose) @ before).AdjointMap()
        self._drift = carry @ self._drift @ carry.T + self._map.step_covariance
        self._keyframe_pose = self._pose
        self._keyframe = frame
        self._keyframe_points = int(np.count_nonzero(np.isfinite(self._map.locate(seen.ids)[:, 0])))


def _common(*frames: Frame) -> Ids:
    """List the ids of the tracks that all frames see."""
    ids = frames[0].observations.ids
    for frame in frames[1:]:
        ids = np.intersect1d(ids, frame.observations.ids)
    return np.unique(ids)


def _rays(frame: Frame, ids: Ids) -> Array:
    """Return the normalized points of tracks, given by sorted ids."""
    _, rows, _ = np.intersect1d(frame.observations.ids, ids, return_indices=True)
    return frame.observations.rays[rows]


def _same_rig(one: Frame, other: Frame) -> bool:
    """Tell whether two frames are of the same calibration."""
    if (one.right_position is None) != (other.right_position is None) or one.focal_length != other.focal_length:
        return False
    return one.right_position is None or np.array_equal(one.right_position, other.right_position)  # type: ignore[arg-type]
