"""The table of parameters and topics, and everything that must agree with it."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from itertools import pairwise

import pytest
import yaml

from superpoint_ros import FrontEnd, SuperPoint, estimate_homography, match
from superpoint_ros.extraction.runtimes import PRECISIONS
from superpoint_ros.node import interface
from superpoint_ros.node.adapters import ADAPTED
from superpoint_ros.node.interface import PARAMETERS, ParameterError, parameter
from superpoint_ros.node.messages import DESCRIPTOR_TYPES
from superpoint_ros.node.topics import TRANSPORTS
from superpoint_ros.odometry import interface as odometry
from superpoint_ros.two_view.homography import METHODS, homography_from_points

TABLES = {"detector": interface.TABLE, "odometry": odometry.PARAMETERS}
"""Parameters by the name of their file in config/."""
ALL = [(name, entry) for name, table in TABLES.items() for entry in table]
RANGED = [entry for entry in PARAMETERS if entry.minimum is not None]
PROMISED = {
    "weights": "default", "device": "auto", "runtime": "auto", "precision": "auto", "max_keypoints": 1000,
    "nms_radius": 4, "detection_threshold": 0.005, "border": 4, "subpixel": True, "resize": 0, "levels": 1,
    "image_transport": "raw", "descriptor_type": "float32", "homography.threshold": 3.0, "max_gap": 1.0,
}  # fmt: skip
TOPICS = {
    ("image", "sensor_msgs/msg/Image"),
    ("image/compressed", "sensor_msgs/msg/CompressedImage"),
    ("mask", "sensor_msgs/msg/Image"),
    ("camera_info", "sensor_msgs/msg/CameraInfo"),
    ("~/features", "superpoint_ros/msg/Features"),
    ("~/matched_homography", "superpoint_ros/msg/MatchedHomography"),
    ("~/image_annotated", "sensor_msgs/msg/Image"),
    ("~/keypoints_cloud", "sensor_msgs/msg/PointCloud2"),
    ("~/stereo_matches", "superpoint_ros/msg/StereoMatches"),
    ("~/image_annotations", "foxglove_msgs/msg/ImageAnnotations"),
    ("~/vins_restart", "std_msgs/msg/Bool"),
    ("~/vins_features", "sensor_msgs/msg/PointCloud"),
    ("~/vins_mono_features", "sensor_msgs/msg/PointCloud"),
    ("~/rgbd_image", "rtabmap_msgs/msg/RGBDImage"),
    ("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray"),
    ("image/foxglove", "foxglove_msgs/msg/CompressedVideo"),
    ("image", "foxglove_msgs/msg/CompressedVideo"),
    ("image", "foxglove_msgs/msg/CompressedImage"),
}


def flat(tree, prefix=""):
    """Flatten {"a": {"b": 1}} to {"a.b": 1}, as ROS 2 reads a parameters file."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", tuple(value) if isinstance(value, list) else value


def typed(values):
    return {name: (type(value), value) for name, value in values.items()}


def test_the_documented_parameters_exist_with_their_defaults():
    defaults = interface.defaults()
    assert typed({name: defaults[name] for name in PROMISED}) == typed(PROMISED)
    assert {"match.min_similarity", "match.ratio", "homography.method", "homography.min_inliers"} <= set(defaults)
    fixed = {entry.name for entry in PARAMETERS if entry.read_only}
    assert fixed == {
        "weights",
        "descriptor_size",
        "device",
        "runtime",
        "precision",
        "image_transport",
        "cameras",
        "rectified",
        "undistort",
        "intensity",
        "mask",
        "stereo",
        "stereo_slop",
        "adapters",
    }


@pytest.mark.parametrize(("name", "table"), TABLES.items(), ids=TABLES)
def test_the_configuration_file_has_exactly_the_parameters_and_defaults(project, name, table):
    text = (project / "config" / f"{name}.yaml").read_text(encoding="utf-8")
    found = dict(flat(yaml.safe_load(text)["/**"]["ros__parameters"]))
    assert typed(found) == typed(table.defaults())


def in_words(entry):
    """Return the documented description of a parameter."""
    has_range = entry.choices or entry.minimum is not None or entry.type is tuple
    named = entry.description + (f"; {entry.allowed}" if has_range else "")
    return named + (" (fixed)" if entry.read_only else "")


@pytest.mark.parametrize(("name", "table"), TABLES.items(), ids=TABLES)
def test_the_configuration_file_describes_every_parameter_with_its_range_directly_above_it(project, name, table):
    text = (project / "config" / f"{name}.yaml").read_text(encoding="utf-8")
    lines, path, above = text.splitlines(), [], {}
    for before, line in pairwise(lines):
        key = re.match(r"( *)([\w/*]+):", line)
        if key:  # of a parameter or the group in which it is
            path[len(key[1]) // 2 :] = [key[2]]
            above[".".join(path[2:])] = before.strip() if before.startswith(key[1] + "#") else ""
    assert {entry.name: above[entry.name] for entry in table} == {e.name: f"# {in_words(e)}" for e in table}


@pytest.mark.parametrize("node", [interface, odometry], ids=TABLES)
def test_names_are_unique_and_descriptions_are_not_empty(node):
    keys = [topic.key for topic in node.INPUTS + node.OUTPUTS]
    names = [entry.name for entry in node.PARAMETERS]
    assert len(set(keys)) == len(keys) and len(set(names)) == len(names)
    for entry in (*node.PARAMETERS, *node.INPUTS, *node.OUTPUTS):
        assert len(entry.description.split()) >= 2 and not entry.description.endswith(".")


def test_numbers_have_ranges_and_defaults_pass_their_own_checks():
    for _, entry in ALL:
        assert typed({"": entry.check(entry.default)}) == typed({"": entry.default})
        assert (entry.minimum is not None and entry.maximum is not None) == (entry.type in (int, float))


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (SuperPoint.__init__, ["weights", "device", "runtime", "precision", "max_keypoints", "nms_radius",
                               "detection_threshold", "border", "subpixel", "resize", "levels"]),
        (match, ["match.min_similarity", "match.ratio"]),
        (estimate_homography, ["homography.method", "homography.threshold", "homography.min_inliers"]),
        (homography_from_points, ["homography.method", "homography.threshold", "homography.min_inliers"]),
    ],
    ids=["SuperPoint", "match", "estimate_homography", "homography_from_points"],
)  # fmt: skip
def test_defaults_in_python_are_those_of_the_node(function, names):
    keywords = {name: value.default for name, value in inspect.signature(function).parameters.items()}
    defaults = interface.defaults()
    assert typed({name: keywords[name.split(".")[-1]] for name in names}) == typed({n: defaults[n] for n in names})


def test_a_front_end_without_settings_has_the_nodes_defaults(superpoint):
    settings, defaults = FrontEnd(superpoint).settings, interface.defaults()
    assert {**settings.extraction} == {name: defaults[name] for name in settings.extraction}
    assert len(settings.extraction) == 12
    assert (settings.min_similarity, settings.ratio) == (defaults["match.min_similarity"], defaults["match.ratio"])
    others = (settings.method, settings.threshold, settings.min_inliers, settings.max_gap, settings.tracking)
    names = ("homography.method", "homography.threshold", "homography.min_inliers", "max_gap", "tracking")
    assert others == tuple(defaults[name] for name in names)


def test_choices_are_exactly_those_of_the_code():
    assert set(parameter("image_transport").choices) == set(TRANSPORTS)
    assert set(parameter("homography.method").choices) == set(METHODS)
    assert set(parameter("precision").choices) == {"auto", *PRECISIONS}
    assert set(parameter("descriptor_type").choices) == set(DESCRIPTOR_TYPES)


def plain(number):
    """Format a bound without exponent, and without a decimal point if it is an integer."""
    return str(number).removesuffix(".0")


@pytest.mark.parametrize("entry", RANGED, ids=lambda entry: entry.name)
def test_both_bounds_are_accepted_and_values_outside_are_rejected_with_the_range(entry):
    assert entry.minimum <= entry.default <= entry.maximum
    beyond = 1 if entry.type is int else 1e-6
    for bound in (entry.minimum, entry.maximum):
        assert entry.check(entry.type(bound)) == bound
    for value in (entry.type(entry.minimum) - beyond, entry.type(entry.maximum) + beyond):
        with pytest.raises(ParameterError) as caught:
            entry.check(value)
        sentence = f"parameter '{entry.name}' is {value!r}, allowed is"
        assert str(caught.value).startswith(sentence)
        assert f"from {plain(entry.minimum)} to {plain(entry.maximum)}" in str(caught.value)


WRONG = {
    int: [1.0, "5", True, None, [5]],
    float: ["0.5", True, None, float("nan"), float("inf"), [0.5]],
    bool: [0, 1, "true", None],
    str: ["", 3, True, None, b"auto"],
    tuple: ["left", [], [1], None, ["left", "left"], ["left", ""], ["0left"], ["left/"], ["le ft"], ["/left"]],
}


@pytest.mark.parametrize("entry", PARAMETERS, ids=lambda entry: entry.name)
def test_a_value_of_the_wrong_type_is_rejected_by_name(entry):
    wrong = [value for value in WRONG[entry.type] if not (value is True and "true" in entry.choices)]
    for value in wrong:
        with pytest.raises(ParameterError, match=f"'{re.escape(entry.name)}' is .*allowed is "):
            entry.check(value)


@pytest.mark.parametrize("entry", [e for e in PARAMETERS if e.choices], ids=lambda entry: entry.name)
def test_only_the_choices_are_accepted_and_named(entry):
    one = (lambda choice: (choice,)) if entry.type is tuple else str
    assert [entry.check(one(choice)) for choice in entry.choices] == [one(choice) for choice in entry.choices]
    with pytest.raises(ParameterError, match=re.escape(", ".join(entry.choices))):
        entry.check(one("something else"))


def test_a_choice_that_yaml_reads_as_a_boolean_is_accepted():
    assert [parameter("rectified").check(value) for value in (True, False, "true", "auto")] == [
        "true", "false", "true", "auto",
    ]  # fmt: skip


def test_an_integer_is_accepted_for_a_number():
    value = parameter("homography.threshold").check(2)
    assert value == 2.0 and type(value) is float


def test_every_camera_has_its_own_topics_and_the_node_has_one_for_diagnostics():
    cameras = parameter("cameras").check(["left", "rig/right"])
    assert cameras == ("left", "rig/right")
    names = {place: topic.name for place, topic in interface.outputs(cameras).items()}
    plain = [topic for topic in interface.OUTPUTS if not topic.adapter]
    assert len(names) == 2 * (len(plain) - 2) + 1
    assert names["features", "left"] == "~/left/features" and names["diagnostics", ""] == "/diagnostics"
    assert names["keypoints_cloud", "rig/right"] == "~/rig/right/keypoints_cloud"
    assert interface.topic("image").for_camera("left").name == "left/image"
    alone = {place: topic.name for place, topic in interface.outputs(parameter("cameras").check([""])).items()}
    stereo = ("stereo_matches", "")
    assert alone == {(topic.key, ""): topic.name for topic in plain if topic.key != stereo[0]}
    with_stereo = {place: topic.name for place, topic in interface.outputs(cameras, stereo=True).items()}
    assert with_stereo == {**names, stereo: "~/stereo_matches"}


def test_the_topics_of_an_adapter_exist_where_it_is_on():
    adapted = [topic for topic in interface.OUTPUTS if topic.adapter]
    assert {topic.adapter for topic in adapted} == set(parameter("adapters").choices)
    assert {topic.key for topic in adapted} == set(ADAPTED)
    assert parameter("adapters").default == ("",)
    for topic in adapted:
        added = set(interface.outputs(("",), adapters=[topic.adapter])) - set(interface.outputs(("",)))
        assert (topic.key, "") in added and {interface.topic(key).adapter for key, _ in added} == {topic.adapter}


def test_an_unknown_parameter_is_rejected_with_the_known_ones():
    for call in (lambda: parameter("max_keypoint"), lambda: interface.checked({"max_keypoint": 3})):
        with pytest.raises(ParameterError, match=r"'max_keypoint' is unknown.*max_keypoints"):
            call()
    assert typed(interface.checked({"max_gap": 2, "border": 0})) == typed({"max_gap": 2.0, "border": 0})


def test_the_topics_and_their_quality_of_service_are_the_documented_ones():
    assert {(topic.name, topic.type) for topic in interface.INPUTS + interface.OUTPUTS} == TOPICS
    inputs = {topic.type: (topic.qos.reliable, topic.qos.depth) for topic in interface.INPUTS}
    assert inputs.pop("foxglove_msgs/msg/CompressedVideo") == (False, 10)
    assert set(inputs.values()) == {(False, 1)}
    assert {(topic.qos.reliable, topic.qos.depth) for topic in interface.OUTPUTS} == {(True, 5)}
    assert interface.topic("features").name == "~/features" and interface.NODE_NAME == "superpoint_detector"


def test_reading_the_table_does_not_import_pytorch(project):
    code = "import sys; import superpoint_ros, superpoint_ros.node.interface; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=project, timeout=120, check=False).returncode == 0


@pytest.fixture(scope="module")
def rows(project):
    """Read the README's table rows as lists of cells, without backticks."""
    path = project / "README.md"
    if not path.is_file():
        pytest.skip("README.md does not exist yet")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return [[cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("entry", [entry for _, entry in ALL], ids=[f"{name} {entry.name}" for name, entry in ALL])
def test_the_readmes_table_has_every_parameter_with_its_default_and_range(rows, entry):
    default = json.dumps(entry.default) if entry.type in (bool, tuple) else str(entry.default)
    assert [entry.name, default, in_words(entry).replace("`", "")] in rows


def test_the_readmes_table_has_every_topic_with_its_type(rows):
    for name, kind in (*TOPICS, *((topic.name, topic.type) for topic in odometry.INPUTS + odometry.OUTPUTS)):
        short = kind.replace("/msg/", "/")
        assert [row for row in rows if row[0] == name and {kind, short} & set(row[1:])], name
