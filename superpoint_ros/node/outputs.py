"""Publish what the node says about a frame: the two main messages first, then everything optional."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import numpy as np

from superpoint_ros.frontend.frames import FrameResult
from superpoint_ros.node import interface
from superpoint_ros.node.host import Host
from superpoint_ros.node.messages import features_fields, homography_fields
from superpoint_ros.node.rays import ray_fields
from superpoint_ros.node.state import CameraState
from superpoint_ros.node.visualization import annotated_fields, cloud_fields
from superpoint_ros.node.warnings import ThrottledWarnings, format_error, unexpected


class Outputs:
    """The outputs that belong to one frame. Failures of the optional ones do not affect the frame's features.

    Args:
        host: the program around the detector.
        warn: receives the warnings.
        states: of each camera.
        label: of the weights.
        adapters: names of the adapters that are on.
    """

    def __init__(
        self,
        host: Host,
        warn: ThrottledWarnings,
        states: Mapping[str, CameraState],
        label: str,
        adapters: Collection[str] = (),
    ) -> None:
        self._host, self._warn, self._states, self._label = host, warn, states, label
        self._adapted = [topic.key for topic in interface.OUTPUTS if topic.adapter and topic.adapter in adapters]

    def publish(self, result: FrameResult, descriptor_type: str, with_pair: Collection[str] = ()) -> None:
        """Publish a result.

        Args:
            descriptor_type: see `messages.features_fields`.
            with_pair: keys of topics whose messages belong to a stereo pair, not to the frame.
        """
        header, camera, host = result.frame.context, result.frame.camera, self._host
        state = self._states[camera]
        rays = ray_fields(result, state.calibration)
        host.publish("features", camera, header, features_fields(result, self._label, descriptor_type, rays))
        reference = {"reference_stamp": result.reference_stamp}
        host.publish("matched_homography", camera, header, {**homography_fields(result), **reference})
        state.health.record_age((host.now() - result.frame.stamp) * 1e-9)
        self._check_size(state, result)
        if host.subscriber_count("image_annotated", camera):
            self.publish_optional("image_annotated", result, lambda: annotated_fields(result))
        if "keypoints_cloud" not in with_pair and host.subscriber_count("keypoints_cloud", camera):
            self.publish_optional("keypoints_cloud", result, lambda: self._cloud(state, result, rays))
        for key in self._adapted:
            if key not in with_pair and host.subscriber_count(key, camera):
                convert = partial(state.conversions.convert, key, result, state.calibration, rays)
                self.publish_optional(key, result, convert)

    def publish_optional(
        self, key: str, result: FrameResult, fields: Callable[[], Mapping[str, Any] | None], camera: str | None = None
    ) -> None:
        """Publish an optional output; its failure must not affect the frame's features.

        Args:
            fields: gives the fields of the message, or None for no message.
            camera: whose topic it is, if not that of the frame.
        """
        topic_camera, camera = result.frame.camera if camera is None else camera, result.frame.camera
        try:
            if (found := fields()) is not None:
                self._host.publish(key, topic_camera, result.frame.context, found)
        except Exception as error:
            self._states[camera].health.count_problem(f"{key} skipped", format_error(error))
            self._warn(f"{self._host.image_topic(camera)}: {key} skipped", format_error(error), unexpected(error))

    def _cloud(self, state: CameraState, result: FrameResult, rays: Mapping[str, Any]) -> Mapping[str, Any]:
        fields = cloud_fields(result, state.calibration, rays)
        state.health.add_to_total("keypoints without a viewing ray", int(np.isnan(fields["points"][:, 0]).sum()))
        return fields

    def _check_size(self, state: CameraState, result: FrameResult) -> None:
        reason, calibration = None, state.calibration
        if calibration is not None and calibration.image_size != result.features.image_size:
            (height, width), (rows, columns) = calibration.image_size, result.features.image_size
            reason = (
                f"it is for {width}x{height} pixels and the image has {columns}x{rows}, so it is ignored: there are "
                "no normalized points, no points are undistorted, and the cloud contains pixels at z = 0"
            )
            self._warn(f"{self._host.image_topic(result.frame.camera)}: calibration of another image size", reason)
        state.health.set_problem("calibration of another image size", reason)
