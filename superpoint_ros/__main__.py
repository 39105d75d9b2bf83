"""Run `superpoint-ros` as `python -m superpoint_ros`."""

import sys

from superpoint_ros.cli import main

sys.exit(main())
