"""ROS 2 messages without ROS 2: their types, their bytes and their fields, for the hosts that have no rclpy."""
