"""A camera as a plain Cyclone DDS program without ROS, which announces the true structure of its images."""

# No postponed annotations: Cyclone DDS evaluates those of its types.

from dataclasses import dataclass

from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import int32, sequence, uint8, uint32
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.topic import Topic

from superpoint_ros.hosts.dds.discovery import Discovery
from superpoint_ros.hosts.dds.participant import Participant


@dataclass
class Time(IdlStruct, typename="builtin_interfaces::msg::dds_::Time_"):
    sec: int32
    nanosec: uint32


@dataclass
class Header(IdlStruct, typename="std_msgs::msg::dds_::Header_"):
    stamp: Time
    frame_id: str


@dataclass
class Image(IdlStruct, typename="sensor_msgs::msg::dds_::Image_"):
    header: Header
    height: uint32
    width: uint32
    encoding: str
    is_bigendian: uint8
    step: uint32
    data: sequence[uint8]


def plain_camera(pipe, environ):
    """Publish an image of 3x2 pixels until `pipe` says stop; runs in its own process."""
    participant = Participant(Discovery.from_environment(environ))
    representation = Policy.DataRepresentation(use_cdrv0_representation=True, use_xcdrv2_representation=False)
    qos = Qos(Policy.Reliability.Reliable(10**9), representation)
    writer = DataWriter(participant.entity, Topic(participant.entity, "rt/image", Image), qos)
    pipe.send("ready")
    while not pipe.poll(0.05):
        writer.write(Image(Header(Time(1, 2), "camera"), 2, 3, "mono8", 0, 3, [1, 2, 3, 4, 5, 6]))
    participant.close()
