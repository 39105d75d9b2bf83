"""Host 1: the nodes on rclpy."""
