"""Host 1: the detector as an rclpy node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from cv_bridge import CvBridge, CvBridgeError
from numpy.typing import NDArray
from sensor_msgs.msg import Image, PointField
from sensor_msgs_py import point_cloud2
from std_msgs.msg import Header

from superpoint_ros.extraction.superpoint import ImageError
from superpoint_ros.hosts.ros2.messages import fill_message, message_class
from superpoint_ros.hosts.ros2.node import TableNode, run
from superpoint_ros.node import interface
from superpoint_ros.node.detector import Detector
from superpoint_ros.node.diagnostics import Diagnostics
from superpoint_ros.node.images import Grey

_CLOUD_FIELDS = [
    PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
    for i, name in enumerate(("x", "y", "z", "score"))
]


class SuperPointDetector(TableNode):
    """The node `superpoint_detector`; topics and parameters are those of `interface`."""

    def __init__(self, **node_options: Any) -> None:
        super().__init__(interface.NODE_NAME, interface.TABLE, **node_options)
        self._bridge = CvBridge()
        self.detector = Detector(self.values, self, self._to_mono8 if self._bridge_works() else None)
        outputs = self.detector.outputs
        self._outputs = {
            place: self._create_output(place, topic) for place, topic in outputs.items() if self._has_type(topic)
        }
        self._inputs = {camera: self._create_inputs(camera) for camera in self.detector.cameras}
        self._begin(self._outputs["diagnostics", ""])
        runtime = self.detector.front_end.superpoint.runtime
        self.get_logger().info(
            f"weights {self.detector.label} on {runtime.device} ({runtime.name}, {runtime.precision}), "
            f"waiting for images on {', '.join(map(self.image_topic, self.detector.cameras))}"
        )

    # The `Host` protocol

    def subscriber_count(self, key: str, camera: str) -> int:
        publisher = self._outputs.get((key, camera)) if self.context.ok() else None
        return 0 if publisher is None else publisher.get_subscription_count()

    def publish(self, key: str, camera: str, header: Any, fields: Mapping[str, Any]) -> None:
        if key == "keypoints_cloud":
            message = point_cloud2.create_cloud(header, _CLOUD_FIELDS, np.ascontiguousarray(fields["points"]))
        else:
            message = fill_message(message_class(interface.topic(key).type)(), {"header": header, **fields})
        self._send(self._outputs[key, camera], message)

    def now(self) -> int:
        return self.get_clock().now().nanoseconds

    def header(self, stamp: Any, frame_id: str) -> Any:
        return Header(stamp=stamp, frame_id=frame_id)

    def image_topic(self, camera: str) -> str:
        return str(self._inputs[camera].topic_name)

    # ROS 2 to the detector

    def _create_inputs(self, camera: str) -> Any:
        topic, submit = self.detector.image_input
        info = interface.topic("camera_info").for_camera(camera)
        self._subscribe(info, info.name, self.detector.set_camera_info, camera)
        mask = interface.topic("mask").for_camera(camera)
        self._subscribe(mask, mask.name, self.detector.submit_mask, camera)
        image = self.resolve_topic_name(interface.topic("image").for_camera(camera).name)
        return self._subscribe(topic, interface.with_transport(topic, image), submit, camera)

    def _subscribe(self, topic: interface.Topic, name: str, submit: Any, camera: str) -> Any:
        return self._create_input((topic.key, camera), topic, name, partial(submit, camera=camera))

    def _has_type(self, topic: interface.Topic) -> bool:
        """Tell whether the messages of an adapter's topic are installed; warn if they are not."""
        try:
            message_class(topic.type)
        except ValueError as error:
            if not topic.adapter:
                raise
            self.warn(f"adapter '{topic.adapter}' has no topic {topic.name}: {error}")
            return False
        return True

    # What differs between nodes

    def _diagnostics(self) -> Iterable[Diagnostics]:
        return self.detector.diagnostics()

    def _change_parameters(self, changes: Mapping[str, Any]) -> None:
        self.detector.set_parameters(changes)

    def _report_mismatch(self, place: tuple[str, str], topic: str, policy: str) -> None:
        self.detector.report_incompatible_qos(place[0], topic, policy, place[1])

    def _report_unreadable(self, place: tuple[str, str], topic: str, error: Exception) -> None:
        self.detector.report_unreadable(topic, error, place[1])

    def _to_mono8(self, message: Image) -> Grey:
        try:
            grey: NDArray[np.uint8] = self._bridge.imgmsg_to_cv2(message, "mono8")
        except CvBridgeError as error:
            raise ImageError(f"cv_bridge cannot convert image encoding '{message.encoding}': {error}") from error
        return grey

    def _bridge_works(self) -> bool:
        """Tell whether cv_bridge's compiled module loads, which fails if it was built for another NumPy."""
        try:
            self._to_mono8(Image(height=2, width=2, encoding="bgr8", step=6, data=bytes(12)))
        except (ImportError, AttributeError, SystemError) as error:
            self.get_logger().warning(f"cv_bridge does not work here, images are converted without it: {error}")
            return False
        return True

    def destroy_node(self) -> None:
        self.detector.close()
        super().destroy_node()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is shut down."""
    return run(SuperPointDetector, interface.NODE_NAME, arguments)
