"""Parameters without ROS 2: texts and types of rcl's parser, and unknown names."""

from __future__ import annotations

import math

import pytest
import yaml

from superpoint_ros.node import interface, parameter_yaml
from superpoint_ros.node.interface import ParameterError
from superpoint_ros.node.parameters import describe_unknown, names_set_explicitly, read_parameters

NODE = "/front/superpoint_detector"

# The values of these texts in Jazzy's rcl_yaml_param_parser, as printed by the library.
INTEGERS = {
    "1": 1, "-7": -7, "+7": 7, "0": 0, "00": 0, "010": 8, "0x10": 16, "0X1F": 31, "-0x1f": -31, " -5": -5,
    "9223372036854775807": 2**63 - 1, "-9223372036854775808": -(2**63), "|\n  5": 5, "&a 5": 5,
}  # fmt: skip
FLOATS = {
    "1e3": 1000.0, "1e-3": 0.001, "1E5": 1e5, "-1.5e+2": -150.0, ".5": 0.5, "5.": 5.0, "08": 8.0, "09.5": 9.5,
    "0e5": 0.0, "0x1p3": 8.0, "0x.8": 0.5, "0x1.8p-1": 0.75, "9223372036854775808": 2.0**63,
    "-9223372036854775809": -(2.0**63),
    "2.2250738585072014e-308": 2.2250738585072014e-308, "inf": math.inf, "INFINITY": math.inf, "-inf": -math.inf,
    ".inf": math.inf, "-.Inf": -math.inf, "+.INF": math.inf,
}  # fmt: skip
TRUE = ["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", " y "]
FALSE = ["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"]
STRINGS = {
    "'y'": "y", '"1e-3"': "1e-3", "'1'": "1", "''": "", "yEs": "yEs", "oN": "oN", "null": "null", "~": "~", "0x": "0x",
    "0b101": "0b101", "0o17": "0o17", "1_000": "1_000", "1.5.2": "1.5.2", "1e": "1e", "1e400": "1e400", ".": ".",
    "1e-400": "1e-400", "1e-310": "1e-310", "-.nan": "-.nan", ".iNf": ".iNf", "2020-01-01": "2020-01-01", "1:2": "1:2",
    "cuda:0": "cuda:0", "/abs/path": "/abs/path", "1.0f": "1.0f", "a # c": "a", "!!str 5": "5", '"a\\tb"': "a\tb",
}  # fmt: skip
TABLE = {**INTEGERS, **FLOATS, **dict.fromkeys(TRUE, True), **dict.fromkeys(FALSE, False), **STRINGS}


@pytest.mark.parametrize(("text", "value"), TABLE.items())
def test_a_text_has_the_type_and_value_of_rcl(text, value):
    found = parameter_yaml.load(text)
    assert type(found) is type(value) and found == value


@pytest.mark.parametrize("text", ["nan", "NaN", ".nan", ".NAN", "-nan"])
def test_not_a_number_is_a_float_as_for_rcl(text):
    assert math.isnan(parameter_yaml.load(text))


def test_lists_have_values_of_one_type():
    assert parameter_yaml.load("[1e-3, .5]") == [0.001, 0.5]
    assert parameter_yaml.load("['']") == [""] and parameter_yaml.load("[true, on]") == [True, True]
    with pytest.raises(ValueError, match="different types"):
        parameter_yaml.load("[1, a]")


@pytest.mark.parametrize("text", ["a: [", "a:", "&a [*a]", "a: 1\n b: 2", "\t- a"])
def test_invalid_yaml_or_a_missing_value_is_rejected_in_one_line(text):
    with pytest.raises(ValueError) as caught:
        parameter_yaml.load(text)
    assert "\n" not in str(caught.value)


def test_keys_are_always_strings():
    assert parameter_yaml.load("y: 1\n1: on") == {"y": 1, "1": True}


@pytest.fixture
def file(tmp_path):
    """Write a parameters file; return its path."""

    def write(text):
        path = tmp_path / "parameters.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def section(name, **values):
    return yaml.safe_dump({name: {"ros__parameters": values}})


def test_numbers_without_a_decimal_point_are_taken_in_files_and_on_the_command_line(file):
    path = file("/**:\n  ros__parameters:\n    detection_threshold: 1e-3\n    subpixel: off\n")
    assert read_parameters([path], [], NODE).values == {"detection_threshold": 0.001, "subpixel": False}
    assert (
        read_parameters([], ["detection_threshold:=1e-3", "subpixel:=n"], NODE).values["detection_threshold"] == 0.001
    )


def test_the_output_of_ros2_param_dump_is_read(file):
    policies = {"depth": 5, "durability": "volatile", "history": "keep_last", "reliability": "reliable"}
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in interface.defaults().items()}
    nested = {}
    for name, value in values.items():
        group, _, last = name.rpartition(".")
        (nested.setdefault(group, {}) if group else nested)[last] = value
    nested |= {"qos_overrides": {"/image": {"subscription": policies}}, "start_type_description_service": True}
    found = read_parameters([file(section(NODE, **nested, use_sim_time=False))], [], NODE)
    assert found.values == interface.defaults() and not found.warning
    assert found.qos_overrides["qos_overrides./image.subscription.depth"] == 5


@pytest.mark.parametrize("value", [True, False])
def test_simulated_time_is_ignored_without_ros_2(file, value):
    found = read_parameters([file(section("/**", use_sim_time=value))], [f"use_sim_time:={value}"], NODE)
    assert not found.values and not found.warning


@pytest.mark.parametrize("name", [NODE, NODE[1:]])
def test_an_unknown_name_in_the_nodes_own_section_is_rejected(file, name):
    with pytest.raises(ParameterError, match="'max_keypoint' is unknown"):
        read_parameters([file(section(name, max_keypoint=5))], [], NODE)


@pytest.mark.parametrize("pattern", ["/**", "/front/*", "/*/superpoint_detector", "/**/superpoint_detector"])
def test_an_unknown_name_under_a_wildcard_is_one_warning_with_the_closest_name(file, pattern):
    found = read_parameters(
        [file(section(pattern, max_keypoint=5, robot_description="<robot>", nms_radius=3))], [], NODE
    )
    assert found.values == {"nms_radius": 3}
    assert found.warning == (
        "parameters that the node does not have are ignored: 'max_keypoint' (did you mean 'max_keypoints'?), "
        "'robot_description'"
    )


@pytest.mark.parametrize(
    "prefix",
    ["", "/front/superpoint_detector:", "superpoint_detector:", "/front/*:", "/**:", "front/superpoint_detector:"],
)
def test_an_assignment_for_this_node_applies(prefix):
    assert read_parameters([], [f"{prefix}max_keypoints:=7"], NODE).values == {"max_keypoints": 7}


def test_an_assignment_by_the_full_name_applies_without_a_namespace():
    found = read_parameters([], ["/superpoint_detector:max_keypoints:=7"], "/superpoint_detector")
    assert found.values == {"max_keypoints": 7}


def test_an_assignment_for_another_node_does_not():
    assert not read_parameters([], ["/back/superpoint_detector:max_keypoints:=7", "other:nonsense:=1"], NODE).values


def test_an_unknown_name_in_an_assignment_is_rejected_except_under_a_wildcard():
    for text in ("max_keypoint:=7", f"{NODE}:max_keypoint:=7"):
        with pytest.raises(ParameterError, match="'max_keypoint' is unknown"):
            read_parameters([], [text], NODE)
    assert "did you mean 'max_keypoints'" in read_parameters([], ["/**:max_keypoint:=7"], NODE).warning


@pytest.mark.parametrize("text", ["max_keypoints", "max_keypoints=7", ":=7", "max_keypoints:=", ":max_keypoints:=7"])
def test_a_malformed_assignment_is_rejected(text):
    with pytest.raises(ParameterError, match="parameter"):
        read_parameters([], [text], NODE)


def test_a_byte_order_mark_is_not_part_of_the_first_section(file):
    assert read_parameters([file("\ufeff" + section("/**", border=9))], [], NODE).values == {"border": 9}


def test_only_ros_2_arguments_with_the_node_name_are_explicit(file):
    path = file(section(NODE, first=1) + section("/**", second=2) + section("/other", third=3))
    words = ["node", "--ros-args", "--params-file", str(path), "-p", "fourth:=4", "-p", f"{NODE}:fifth:=5",
             "--param", "superpoint_detector:sixth:=6", "-p", "/**:seventh:=7",
             "--params-file", "nowhere.yaml"]  # fmt: skip
    assert names_set_explicitly(words, NODE) == {"first", "fifth", "sixth"}


def test_no_unknown_names_have_an_empty_description():
    assert describe_unknown([]) == ""
