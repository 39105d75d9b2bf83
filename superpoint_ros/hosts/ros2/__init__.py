"""Host 1: the detector as an rclpy node."""
