"""`python -m superpoint_ros` is `superpoint-ros`."""

import sys

from superpoint_ros.cli import main

sys.exit(main())
