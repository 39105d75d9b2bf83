"""ROS 2 messages without ROS 2: types, serialisation and fields, for the hosts without rclpy."""
