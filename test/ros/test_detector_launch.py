"""Host 1 as users start it: the launch file, real topics, parameters at runtime, a clean exit."""

from __future__ import annotations

import time
import unittest

import pytest

pytest.importorskip("rclpy", reason="needs a ROS 2 install in the environment (make test-ros)")

import launch_testing.asserts
import launching
import numpy as np
from camera import Listener
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo
from sensor_msgs_py import point_cloud2
from superpoint_ros.msg import MatchedHomography

from superpoint_ros.node import interface
from superpoint_ros.node.messages import features_from_message

NODE = "/front/superpoint_detector"


@pytest.mark.ros
@pytest.mark.launch_test
def generate_test_description():
    return launching.detector("front", image="/camera/image", log_level="info")


class TestDetector(launching.WithContext):
    def setUp(self):
        self.listener = Listener(self.context, "/camera/image", NODE)
        self.listener.connect()

    def tearDown(self):
        self.listener.close()

    def call(self, kind, service, request):
        client = self.listener.node.create_client(kind, f"{NODE}/{service}")
        self.assertTrue(client.wait_for_service(20))
        future = client.call_async(request)
        self.listener.spin_until(future.done, 20)
        return future.result()

    def set_parameters(self, **values):
        parameters = [
            Parameter(name.replace("__", "."), value=value).to_parameter_msg() for name, value in values.items()
        ]
        return self.call(SetParameters, "set_parameters", SetParameters.Request(parameters=parameters)).results

    def test_every_image_yields_features_and_a_homography_with_its_stamp(self):
        for _ in range(5):
            features, homography = self.listener.exchange()
            self.assertEqual(features.header, homography.header)
            self.assertEqual(features.header.frame_id, "camera_optical")
        self.assertEqual((features.image_height, features.image_width), (240, 320))
        decoded = features_from_message(features)
        self.assertGreater(len(decoded), 50)
        np.testing.assert_allclose(np.linalg.norm(decoded.descriptors, axis=1), 1, atol=1e-4)
        self.assertEqual(len(features.track_ids), len(decoded))
        self.assertEqual(homography.status, MatchedHomography.OK)
        self.assertEqual(sum(homography.inliers), homography.inlier_count)
        self.assertEqual(homography.homography[8], 1.0)
        current = decoded.keypoints[np.array(homography.current_indices)]
        np.testing.assert_array_equal(current.reshape(-1), np.array(homography.current_points, np.float32))

    def test_a_blank_image_yields_empty_messages(self):
        features, homography = self.listener.exchange(image=np.zeros((240, 320), np.uint8))
        self.assertLess(len(features.scores), 5)
        self.assertIn(homography.status, (MatchedHomography.FIRST_FRAME, MatchedHomography.TOO_FEW_MATCHES))
        self.assertEqual(list(homography.homography), [0.0] * 9)

    def failures(self):
        """Read the number of failed images from the newest diagnostics."""
        status = [status for message in self.listener.received["diagnostics"] for status in message.status]
        counts = [int(value.value) for one in status for value in one.values if value.key == "failed"]
        return counts[-1] if counts else 0

    def test_bad_images_are_skipped_and_the_next_one_is_processed(self):
        good = np.full((240, 320), 90, np.uint8)
        bad = ({"image": good, "encoding": "unheard_of"}, {"image": good, "step": 3}, {"image": good, "height": 480},
               {"image": np.zeros((8, 8), np.uint8)})  # fmt: skip
        self.assertTrue(self.listener.spin_until(lambda: self.listener.received["diagnostics"]))
        for fields in bad:
            before, deadline = self.failures(), time.monotonic() + 30
            # One at a time, as a newer image replaces a waiting one; repeated, as best effort may lose it.
            while self.failures() == before and time.monotonic() < deadline:
                self.listener.send(**fields)
                self.listener.spin_until(lambda before=before: self.failures() > before, 3)
            self.assertGreater(self.failures(), before, fields.keys())
        features, _ = self.listener.exchange()
        self.assertGreater(len(features.scores), 50)

    def test_parameters_change_at_runtime_and_invalid_values_change_nothing(self):
        self.assertTrue(all(result.successful for result in self.set_parameters(max_keypoints=20)))
        features, _ = self.listener.exchange()
        self.assertLessEqual(len(features.scores) - sum(features.coasted), 20)
        result = self.set_parameters(max_keypoints=0)[0]
        self.assertFalse(result.successful)
        self.assertIn("max_keypoints", result.reason)
        result = self.set_parameters(homography__method="guess")[0]
        self.assertFalse(result.successful)
        self.assertIn("magsac", result.reason)
        self.assertFalse(self.set_parameters(weights="other")[0].successful)
        self.assertTrue(all(result.successful for result in self.set_parameters(max_keypoints=1000)))

    def test_every_parameter_is_described(self):
        names = [parameter.name for parameter in interface.PARAMETERS]
        answer = self.call(DescribeParameters, "describe_parameters", DescribeParameters.Request(names=names))
        for parameter, descriptor in zip(interface.PARAMETERS, answer.descriptors, strict=True):
            self.assertIn(parameter.description, descriptor.description)
            self.assertEqual(descriptor.read_only, parameter.read_only)
            ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
            self.assertEqual(len(ranges), int(parameter.minimum is not None))

    def test_the_annotated_image_and_the_cloud_are_published_for_rviz(self):
        images, clouds = self.listener.received["image_annotated"], self.listener.received["keypoints_cloud"]
        self.listener.exchange_until(lambda: images and clouds)
        cloud = clouds[-1]
        features = self.listener.features_of(cloud.header.stamp)
        self.assertEqual((images[-1].encoding, images[-1].height, images[-1].width), ("bgr8", 240, 320))
        points = point_cloud2.read_points_numpy(cloud, ("x", "y", "z", "score"))
        self.assertEqual(len(points), len(features.scores))
        self.assertTrue((points[:, 2] == 0).all())

    def test_with_camera_info_the_cloud_contains_viewing_rays(self):
        info = CameraInfo(height=240, width=320, distortion_model="plumb_bob", d=[0.0] * 5)
        info.k = [200.0, 0.0, 159.5, 0.0, 200.0, 119.5, 0.0, 0.0, 1.0]
        self.assertTrue(self.listener.spin_until(self.listener.info.get_subscription_count, 20))
        self.listener.info.publish(info)

        def rays_arrive():
            self.listener.received["keypoints_cloud"].clear()
            features, _ = self.listener.exchange()
            self.listener.spin_until(lambda: self.listener.received["keypoints_cloud"], 5)
            clouds = self.listener.received["keypoints_cloud"]
            points = point_cloud2.read_points_numpy(clouds[-1], ("x", "y", "z", "score")) if clouds else None
            if points is None or not len(points) or not (points[:, 2] == 1).all():
                return False
            pixels = np.array(features.keypoints).reshape(-1, 2)
            np.testing.assert_allclose(points[:, :2] * 200 + [159.5, 119.5], pixels, atol=1e-2)
            return True

        self.assertTrue(self.listener.spin_until(rays_arrive, 20))


@launch_testing.post_shutdown_test()
class TestAfterwards(unittest.TestCase):
    def test_the_node_exits_cleanly_on_ctrl_c(self, proc_info):
        launch_testing.asserts.assertExitCodes(proc_info)
