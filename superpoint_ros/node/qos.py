"""Why two ends of a topic do not talk to each other: policies of which one asks for more than the other offers."""

from __future__ import annotations

_SETTING = "qos_overrides.{topic}.{end}.reliability"


def incompatible(topic: str, end: str, policy: str) -> str:
    """What to tell the user, in one sentence without the topic's name in front.

    Args:
        topic: the full name.
        end: which end of the topic is ours, `publisher` or `subscription`.
        policy: the name of the policy, as in `reliability`; `type` where the types of messages differ.
    """
    setting = _SETTING.format(topic=topic, end=end)
    if end == "subscription":
        if policy == "reliability":
            return (
                "a publisher offers best effort and this node requests reliable, so nothing of it arrives; have it "
                f"publish reliably, or set {setting} to best_effort"
            )
        if policy == "type":
            return "a publisher has messages of another type, so nothing of it arrives; have the topic renamed"
        return f"a publisher offers less than this node requests in its policy '{policy}', so nothing of it arrives"
    if policy == "reliability":
        return (
            "a subscriber requests reliable and this node offers best effort, so it gets nothing; have it request best "
            f"effort, or set {setting} to reliable"
        )
    if policy == "durability":
        return (
            "a subscriber requests earlier messages (transient local) and this node keeps none (volatile), so it gets "
            "nothing; have it request volatile"
        )
    if policy == "type":
        return "a subscriber wants messages of another type, so it gets nothing; have the topic renamed"
    return f"a subscriber requests more than this node offers in its policy '{policy}', so it gets nothing"
