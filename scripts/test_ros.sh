#!/usr/bin/env bash
# Build the package with colcon and run the tests of test/ros, on each middleware of a ROS 2 install.
# `make test-ros` calls it in the project's root: scripts/test_ros.sh SETUP_BASH [ARGUMENT OF PYTEST]...
set -eo pipefail

setup=$1
shift || true
if [[ -z $setup ]]; then
  echo "test-ros skipped: no ROS 2 install found (/opt/ros/*/setup.bash)"
  exit
fi
# shellcheck disable=SC1090
source "$setup"
# The setup of some releases opens it to the whole network, whatever it was.
export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST

installed() {
  local prefix
  for prefix in ${AMENT_PREFIX_PATH//:/ }; do
    [[ ! -e $prefix/share/ament_index/resource_index/packages/$1 ]] || return 0
  done
  return 1
}

# Names of ROS packages have no hyphen, those of Python's in rosdep have. No test starts RViz.
needed=$(sed -nE 's:.*<(\w+_)?depend>(\w+)</.*:\2:p' package.xml | grep -vx rviz2)
lacks=()
for package in $needed; do installed "$package" || lacks+=("$package"); done
middlewares=()
for package in rmw_cyclonedds_cpp rmw_fastrtps_cpp; do ! installed "$package" || middlewares+=("$package"); done
((${#middlewares[@]})) || lacks+=("rmw_cyclonedds_cpp or rmw_fastrtps_cpp")
colcon --help &>/dev/null || lacks+=(colcon)
if ((${#lacks[@]})); then
  printf -v listed '%s, ' "${lacks[@]}"
  echo "test-ros skipped: $(dirname "$setup") lacks ${listed%, }"
  exit
fi

workspace=.ros_ws
colcon --log-base $workspace/log build --base-paths . --packages-select superpoint_ros \
  --build-base $workspace/build --install-base $workspace/install --symlink-install
source $workspace/install/local_setup.bash
export PATH="$PWD/.venv/bin:$PATH"
if ! python -c "import rclpy"; then
  echo "test-ros: $(python --version) of .venv cannot import the rclpy of $(dirname "$setup"); have .venv made by the" \
    "Python of ROS 2, as in 'make clean test-ros PYTHON=/usr/bin/python3'" >&2
  exit 1
fi
for middleware in "${middlewares[@]}"; do
  echo "== $middleware"
  RMW_IMPLEMENTATION=$middleware python -m pytest -m ros test/ros "$@"
done
