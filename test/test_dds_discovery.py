"""ROS 2's environment variables, and the Cyclone DDS configuration built from them."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from superpoint_ros.hosts.dds.discovery import Discovery, Range
from superpoint_ros.node.errors import StandaloneError


def configuration(**environ: str) -> ElementTree.Element:
    """Return this package's part of the configuration."""
    text = Discovery.from_environment(environ).configuration()
    return ElementTree.fromstring(text[: text.index("</CycloneDDS>") + len("</CycloneDDS>")])


def peers(root: ElementTree.Element) -> list[str]:
    return [peer.attrib["address"] for peer in root.iter("Peer")]


def test_an_empty_environment_means_domain_0_on_the_subnet():
    assert Discovery.from_environment({}) == Discovery(0, Range.SUBNET, (), "")
    assert Discovery.from_environment({"ROS_DOMAIN_ID": "", "ROS_AUTOMATIC_DISCOVERY_RANGE": ""}) == Discovery()


@pytest.mark.parametrize(("text", "domain"), [("0", 0), ("7", 7), ("232", 232), ("0x10", 16), ("010", 8)])
def test_the_domain_is_read_as_c_reads_integers(text, domain):
    assert Discovery.from_environment({"ROS_DOMAIN_ID": text}).domain_id == domain


def test_localhost_discovery_uses_the_loopback_interface_without_multicast():
    root = configuration(ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST")
    assert [entry.attrib for entry in root.iter("NetworkInterface")] == [{"address": "127.0.0.1"}]
    assert [entry.text for entry in root.iter("AllowMulticast")] == ["false"]
    assert peers(root) == ["localhost"]


def test_the_legacy_variable_means_localhost_and_no_other_peers():
    found = Discovery.from_environment({"ROS_LOCALHOST_ONLY": "1", "ROS_STATIC_PEERS": "robot"})
    assert found == Discovery(0, Range.LOCALHOST)
    assert Discovery.from_environment({"ROS_LOCALHOST_ONLY": "0"}) == Discovery()


def test_static_peers_are_added_and_reached_beyond_this_machine():
    root = configuration(ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST", ROS_STATIC_PEERS="192.0.2.7; robot.local;")
    assert peers(root) == ["localhost", "192.0.2.7", "robot.local"]
    assert not list(root.iter("NetworkInterface"))
    assert peers(configuration(ROS_STATIC_PEERS="192.0.2.7")) == ["192.0.2.7"]


def test_discovery_that_is_off_has_no_peers_and_a_unique_tag():
    root = configuration(ROS_AUTOMATIC_DISCOVERY_RANGE="OFF", ROS_STATIC_PEERS="192.0.2.7")
    assert not peers(root)
    assert [entry.text for entry in root.iter("AllowMulticast")] == ["false"]
    assert len(list(root.iter("Tag"))) == 1


def test_system_default_leaves_discovery_to_cyclone_dds():
    root = configuration(ROS_AUTOMATIC_DISCOVERY_RANGE="SYSTEM_DEFAULT", ROS_STATIC_PEERS="192.0.2.7")
    assert not list(root.iter("Discovery"))
    assert not list(root.iter("AllowMulticast"))


@pytest.mark.parametrize("in_file", [False, True])
def test_the_users_configuration_takes_precedence_and_may_select_the_interfaces(in_file, tmp_path):
    uri = '<General><Interfaces><NetworkInterface name="eth0"/></Interfaces></General>'
    if in_file:
        path = tmp_path / "cyclonedds.xml"
        path.write_text(f"<CycloneDDS><Domain>{uri}</Domain></CycloneDDS>", encoding="utf-8")
        uri = f"file://{path}"
    environ = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "CYCLONEDDS_URI": uri}
    text = Discovery.from_environment(environ).configuration()
    assert text.endswith("," + uri)
    assert "NetworkInterface" not in text.removesuffix(uri)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("ROS_DOMAIN_ID", "-1", "an integer from 0 to 232"),
        ("ROS_DOMAIN_ID", "233", "an integer from 0 to 232"),
        ("ROS_DOMAIN_ID", "five", "an integer from 0 to 232"),
        ("ROS_AUTOMATIC_DISCOVERY_RANGE", "localhost", "one of SUBNET, LOCALHOST, OFF, SYSTEM_DEFAULT"),
        ("ROS_LOCALHOST_ONLY", "true", "0 or 1"),
        ("ROS_STATIC_PEERS", 'robot;"/><Peer', "host names and addresses"),
        ("CYCLONEDDS_URI", "file:///tmp/ü.xml", "ASCII"),
    ],
)
def test_a_bad_variable_is_rejected_with_its_name_its_value_and_what_is_allowed(name, value, allowed):
    with pytest.raises(StandaloneError, match=name) as error:
        Discovery.from_environment({name: value})
    assert value.split(";")[-1] in str(error.value)
    assert allowed in str(error.value)
