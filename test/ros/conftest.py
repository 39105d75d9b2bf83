"""A domain of its own for every run, so that neighbours on the machine are not heard."""

from __future__ import annotations

import os

os.environ.setdefault("ROS_DOMAIN_ID", str(10 + os.getpid() % 80))
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
