.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ROS_SETUP := $(lastword $(sort $(wildcard /opt/ros/*/setup.bash)))
ROS_WS := .ros_ws
# Whatever runs here talks to this machine alone.
export ROS_AUTOMATIC_DISCOVERY_RANGE = LOCALHOST

.PHONY: help venv demo test soak test-ros bench lint format dist-check clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

venv: $(VENV)/.ready ## set up .venv with everything that demo and tests need

$(VENV)/.ready: setup.py constraints.txt package.xml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[standalone,demo,evaluate,train,test]'
	@# Its wheels require pytest 9, which they do not use and which breaks launch_testing; there is none for Python 3.10.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps "gtsam>=4.3" || \
	  echo "gtsam cannot be installed here, so there is no odometry"
	touch $@

demo: venv ## run the whole front end live on the embedded camera; results in demo_output/
	$(BIN)/superpoint-ros demo $(ARGS)

test: venv ## run the tests that need no ROS 2 install
	@# Those that measure time come last, with nothing beside them. Code 5: none of the tests asked for is among these.
	@codes=; for phase in "parallel -n auto --dist worksteal" serial; do \
	  $(BIN)/python -m pytest -m "not ros" --phase $$phase $(ARGS); codes=$$codes$$?; done; \
	  [[ $$codes =~ ^(00|05|50)$$ ]]

soak: venv ## send broken input to live nodes beside good frames for ten minutes, or SOAK_SECONDS
	SOAK_SECONDS=$(or $(SOAK_SECONDS),600) $(BIN)/python -m pytest -s test/test_soak.py $(ARGS)

test-ros: venv ## build with colcon and run the tests on a real ROS 2, where one is installed
	@scripts/test_ros.sh '$(ROS_SETUP)' $(ARGS)

bench: venv ## measure speed beside other implementations; results in bench_output/
	$(BIN)/superpoint-ros bench --out bench_output $(ARGS)

lint: venv ## check format, lint and types
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[lint]'
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

format: venv ## format the code
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[lint]'
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

dist-check: venv ## build wheel and sdist, and try each in an environment of its own (downloads what they need)
	$(BIN)/python scripts/check_distributions.py $(ARGS)

clean: ## remove what the targets made
	rm -rf $(VENV) $(ROS_WS) demo_output bench_output build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
