"""The programs around the node: ROS 2 (rclpy), DDS without ROS 2, and recordings."""
