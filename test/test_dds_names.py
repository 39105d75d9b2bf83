"""Names of nodes and topics in the standalone host, and remapping, by the rules of ROS 2."""

from __future__ import annotations

import pytest

from superpoint_ros.node.errors import StandaloneError
from superpoint_ros.node.names import NameRules, parse_remappings


@pytest.mark.parametrize(
    ("topic", "namespace", "expected"),
    [
        ("image", "/", "/image"),
        ("image", "/robot/front", "/robot/front/image"),
        ("image", "robot", "/robot/image"),
        ("camera/image", "/robot", "/robot/camera/image"),
        ("/image", "/robot", "/image"),
        ("~/features", "/", "/detector/features"),
        ("~/features", "/robot", "/robot/detector/features"),
        ("{node}/image", "/robot", "/robot/detector/image"),
        ("/{ns}/image", "/robot", "/robot/image"),
    ],
)
def test_topics_become_absolute_as_in_ros(topic, namespace, expected):
    assert NameRules("detector", namespace).resolve(topic) == expected


@pytest.mark.parametrize(
    ("rules", "topic", "expected"),
    [
        (["image:=/camera/image_raw"], "image", "/camera/image_raw"),
        (["image:=camera/image_raw"], "image", "/ns/camera/image_raw"),
        (["/ns/image:=/other"], "image", "/other"),
        (["~/features:=/points"], "~/features", "/points"),
        (["/ns/detector/features:=~/points"], "~/features", "/ns/detector/points"),
        (["rostopic://image:=/other"], "image", "/other"),
        (["detector:image:=/other"], "image", "/other"),
        (["somebody:image:=/other"], "image", "/ns/image"),
        (["image:=/first", "image:=/second"], "image", "/first"),
        (["image:=/first", "/ns/image:=/second"], "image", "/first"),
        (["image:=/camera/image", "/camera/image:=/other"], "image", "/camera/image"),
        (["image:=/other"], "image/compressed", "/ns/image/compressed"),
    ],
)
def test_remappings_match_absolute_names_and_apply_once(rules, topic, expected):
    assert NameRules("detector", "/ns", parse_remappings(rules)).resolve(topic) == expected


def test_node_name_and_namespace_are_remapped_before_topics_are_resolved():
    rules = NameRules("detector", "/", parse_remappings(["__node:=left", "__ns:=/robot", "~/features:=/points"]))
    assert (rules.name, rules.namespace, rules.full_name) == ("left", "/robot", "/robot/left")
    assert rules.resolve("image") == "/robot/image"
    assert rules.resolve("~/features") == "/points"
    assert rules.resolve("~/image_annotated") == "/robot/left/image_annotated"


def test_full_name_in_the_root_namespace_has_one_slash():
    assert NameRules("detector").full_name == "/detector"


@pytest.mark.parametrize(
    "topic",
    ["", "/", "image/", "a//b", "1image", "a/2b", "my image", "image~", "~image", "a-b", "x" * 300, "{other}/a"],
)
def test_an_invalid_topic_is_rejected_by_name(topic):
    with pytest.raises(StandaloneError, match=r"topic name .* is invalid, allowed") as error:
        NameRules("detector").resolve(topic)
    assert repr(topic) in str(error.value)


@pytest.mark.parametrize("name", ["", "1st", "a/b", "my node", "a-b", "x" * 300])
def test_an_invalid_node_name_is_rejected_by_name(name):
    with pytest.raises(StandaloneError, match=r"node name .* is invalid, allowed"):
        NameRules(name)


@pytest.mark.parametrize("namespace", ["/a/", "/a//b", "/1", "/a b"])
def test_an_invalid_namespace_is_rejected_by_name(namespace):
    with pytest.raises(StandaloneError, match=r"namespace .* is invalid, allowed"):
        NameRules("detector", namespace)


@pytest.mark.parametrize("rule", ["image", "image:=", ":=/camera", "image=/camera", ""])
def test_a_remapping_that_is_not_a_pair_is_rejected(rule):
    with pytest.raises(StandaloneError, match=r"remapping .* is invalid, allowed is from:=to"):
        parse_remappings([rule])


@pytest.mark.parametrize("rule", ["image:=/camera//image", "1image:=/a", "__nope:=x", "detector:__log_level:=debug"])
def test_a_remapping_of_invalid_names_is_rejected(rule):
    with pytest.raises(StandaloneError, match=r"remapping .* is invalid"):
        NameRules("detector", "/", parse_remappings([rule]))
