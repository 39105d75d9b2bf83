"""Visual odometry from the published features: the example of a consumer."""
