"""Publishers and subscriptions: DDS writers and readers of ROS messages."""

from __future__ import annotations

import ctypes
import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

from cyclonedds.core import DDSException, GuardCondition, InstanceState, ReadCondition, SampleState, ViewState, WaitSet
from cyclonedds.idl import IdlStruct, make_idl_struct
from cyclonedds.idl.types import uint8
from cyclonedds.internal import InvalidSample
from cyclonedds.pub import DataWriter
from cyclonedds.qos import BasePolicy, Policy
from cyclonedds.qos import Qos as DdsQos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Sample, Topic

from superpoint_ros.hosts.dds.participant import Participant, delete, gid
from superpoint_ros.hosts.dds.untyped import match_by_name
from superpoint_ros.hosts.wire import typesystem
from superpoint_ros.node.errors import StandaloneError
from superpoint_ros.node.interface import Qos
from superpoint_ros.node.warnings import ThrottledWarnings, format_error

logger = logging.getLogger(__name__)

_MAX_BLOCKING_TIME = 100_000_000  # nanoseconds for which a full history may block publish()

# A reader that lost part of a message requests it again, possibly after newer ones were sent. If it is gone by then,
# the writer sends a gap, at which Fast DDS (observed with 2.14.4) hangs in take() if it has part of the message.
_MIN_RELIABLE_HISTORY = 16
_POLICIES = {2: "durability", 4: "deadline", 8: "liveliness", 11: "reliability", 24: "type", 25: "representation"}
"""Names of policies by their ids in dds_public_qosdefs.h."""
_ANY_STATE = SampleState.Any | ViewState.Any | InstanceState.Any


class _SerialisedMessage(IdlStruct):
    """A serialised message. DDS only needs the name of its type; rosbags does the serialisation."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self, buffer: Any = None, endianness: Any = None, use_version_2: bool | None = None) -> bytes:
        return self.data

    @classmethod
    def deserialize(cls, data: bytes, has_header: bool = True, use_version_2: bool | None = None) -> _SerialisedMessage:
        return cls(data)

    @classmethod
    def deserialize_key(
        cls, data: bytes, has_header: bool = True, use_version_2: bool | None = None
    ) -> _SerialisedMessage:
        return cls(data)


@functools.cache
def _dds_type(type_name: str) -> type[IdlStruct]:
    """Create the DDS type of a ROS message type.

    Cyclone DDS validates incoming bytes against the declared fields, so only one byte is declared; see `untyped`.
    """
    name = typesystem.dds_type_name(type_name)
    return make_idl_struct(
        type_name.split("/")[-1], name, {"first_byte": uint8}, bases=(_SerialisedMessage,), dataclassify=False
    )


class Endpoint:
    """Base of publishers and subscriptions: topic, type and identity."""

    def __init__(self, participant: Participant, dds_topic: str, type_name: str) -> None:
        typesystem.check_type(type_name)
        self.type_name = type_name
        self._dds_topic = dds_topic
        self._topic = Topic(participant.entity, dds_topic, _dds_type(type_name))
        self._entity: DataWriter[Any] | DataReader[Any]
        self._closed = False
        self._mismatches = 0

    @property
    def gid(self) -> bytes:
        """Return the 16 bytes that identify this endpoint in the ROS graph."""
        return gid(self._entity)

    @property
    def topic(self) -> str:
        """Return the absolute ROS name of the topic."""
        return self._dds_topic.removeprefix("rt")

    def incompatible_policy(self) -> str:
        """Return the policy in which an endpoint discovered since the last call does not match, or an empty string.

        `type` stands for another message type.
        """
        if self._closed:
            return ""
        if isinstance(self._entity, DataWriter):
            status = self._entity.get_offered_incompatible_qos_status()
        else:
            status = self._entity.get_requested_incompatible_qos_status()
        new, self._mismatches = status.total_count > self._mismatches, int(status.total_count)
        return _POLICIES.get(int(status.last_policy_id), f"number {status.last_policy_id}") if new else ""


def _policies(qos: Qos, type_name: str) -> list[BasePolicy]:
    """List the policies that ROS 2 sets for both readers and writers, including the type hash."""
    return [
        Policy.Reliability.Reliable(max_blocking_time=_MAX_BLOCKING_TIME)
        if qos.reliable
        else Policy.Reliability.BestEffort,
        Policy.DataRepresentation(use_cdrv0_representation=True, use_xcdrv2_representation=False),
        Policy.Userdata(f"typehash={typesystem.type_hash(type_name)};".encode()),
    ]


def _check_depth(qos: Qos) -> None:
    if qos.depth < 1:
        raise StandaloneError(f"history depth is {qos.depth}, allowed is an integer from 1")


class Publisher(Endpoint):
    """A publisher of messages of one type. `publish` may be called from any thread.

    With `transient_local`, late-joining readers receive the last `qos.depth` messages.
    """

    def __init__(
        self,
        participant: Participant,
        dds_topic: str,
        type_name: str,
        qos: Qos,
        *,
        transient_local: bool = False,
        on_close: Callable[[Publisher], None] | None = None,
    ) -> None:
        _check_depth(qos)
        super().__init__(participant, dds_topic, type_name)
        policies = [*_policies(qos, type_name), Policy.WriterDataLifecycle(autodispose=False)]
        if transient_local:
            history = Policy.History.KeepLast(qos.depth)
            policies += [Policy.Durability.TransientLocal, Policy.DurabilityService(0, history, -1, -1, -1), history]
        else:
            policies.append(
                Policy.History.KeepLast(max(qos.depth, _MIN_RELIABLE_HISTORY) if qos.reliable else qos.depth)
            )
        with match_by_name(self._topic):
            self._entity: DataWriter[Any] = DataWriter(participant.entity, self._topic, DdsQos(*policies))
        # cyclonedds's write() holds the GIL, so a blocked write would stop all threads.
        write = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p)
        self._write = write(("dds_write", DataWriter._dll_handle))
        self._on_close = on_close
        self.timeouts = 0

    def publish(self, message: Any) -> bool:
        """Publish a message; blocks for 0.1 s at most.

        Returns False if it was not sent: slow readers filled the history (counted in `timeouts`), or the publisher is
        closed.

        Raises:
            StandaloneError: if the message is of another type or a field does not fit.
        """
        if self._closed:
            return False
        data = typesystem.serialize(message, self.type_name)
        sample = Sample(ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p), len(data))
        code = self._write(self._entity._ref, ctypes.byref(sample))
        if code >= 0:
            return True
        if code == DDSException.DDS_RETCODE_TIMEOUT:
            self.timeouts += 1
            logger.warning("%s: %d messages not sent so far, readers do not keep up", self._dds_topic, self.timeouts)
        elif not self._closed:
            logger.error("%s: message not sent: %s", self._dds_topic, DDSException(code))
        return False

    @property
    def subscription_count(self) -> int:
        """Return the number of matched readers."""
        return 0 if self._closed else int(self._entity.get_publication_matched_status().current_count)

    def close(self) -> None:
        """Leave the topic. Idempotent."""
        if not self._closed:
            self._closed = True
            if self._on_close:
                self._on_close(self)
            delete(self._entity)
            delete(self._topic)


class Subscription(Endpoint):
    """A subscription that calls `callback(message)` for every message, on its own thread.

    Arrays in the message are read-only. Unreadable messages and exceptions in the callback are passed to `on_problem`
    or, by default, logged at most once in five seconds; they do not end the subscription.
    """

    def __init__(
        self,
        participant: Participant,
        dds_topic: str,
        type_name: str,
        qos: Qos,
        callback: Callable[[Any], None],
        *,
        on_problem: Callable[[Exception], None] | None = None,
        on_close: Callable[[Subscription], None] | None = None,
    ) -> None:
        _check_depth(qos)
        super().__init__(participant, dds_topic, type_name)
        self._callback = callback
        warn = ThrottledWarnings(logger.error)
        self._on_problem = on_problem or (
            lambda error: warn(f"{dds_topic}: message was not processed", format_error(error), error)
        )
        policies = [*_policies(qos, type_name), Policy.History.KeepLast(qos.depth)]
        with match_by_name(self._topic):
            self._entity: DataReader[Any] = DataReader(participant.entity, self._topic, DdsQos(*policies))
        self._stop = GuardCondition(participant.entity)
        self._waitset = WaitSet(participant.entity)
        self._waitset.attach(ReadCondition(self._entity, _ANY_STATE))
        self._waitset.attach(self._stop)
        self._on_close = on_close
        self._thread = threading.Thread(target=self._run, name=f"reader of {dds_topic}", daemon=True)
        self._thread.start()

    @property
    def publisher_count(self) -> int:
        """Return the number of matched writers."""
        return 0 if self._closed else int(self._entity.get_subscription_matched_status().current_count)

    def close(self) -> None:
        """Leave the topic; no callback starts after this returns. Idempotent."""
        if not self._closed:
            self._closed = True
            if self._on_close:
                self._on_close(self)
            self._stop.set(True)
            if threading.current_thread() is not self._thread:
                self._thread.join()
            for entity in (self._waitset, self._stop, self._entity, self._topic):
                delete(entity)

    def _run(self) -> None:
        infinity = 2**63 - 1
        while not self._closed:
            try:
                self._waitset.wait(infinity)
                samples = self._entity.take(N=1)
                while samples and not self._closed:
                    if not isinstance(samples[0], InvalidSample):
                        self._callback(typesystem.deserialize(samples[0].data, self.type_name))
                    samples = self._entity.take(N=1)
            except DDSException:
                if not self._closed:
                    logger.exception("%s: reading failed", self._dds_topic)
                return
            except Exception as error:
                self._on_problem(error)
