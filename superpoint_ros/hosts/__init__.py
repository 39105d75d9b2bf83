"""The programs that run the node: in ROS 2 (rclpy), on DDS without ROS 2, and on recordings."""
