"""Explain why two endpoints of a topic do not match: one requests a policy that the other does not offer."""

from __future__ import annotations

_SETTING = "qos_overrides.{topic}.{end}.reliability"


def explain_mismatch(topic: str, end: str, policy: str) -> str:
    """Explain a mismatch to the user, in one sentence without the topic's name.

    Args:
        topic: full name of the topic.
        end: this node's endpoint, `publisher` or `subscription`.
        policy: name of the policy, as in `reliability`; `type` if the message types differ.
    """
    setting = _SETTING.format(topic=topic, end=end)
    if end == "subscription":
        if policy == "reliability":
            return (
                "a publisher offers best effort and this node requests reliable, so no message arrives; make it "
                f"publish reliably, or set {setting} to best_effort"
            )
        if policy == "type":
            return "a publisher uses another message type, so no message arrives; rename one of the topics"
        return f"a publisher offers less than this node requests in its policy '{policy}', so no message arrives"
    if policy == "reliability":
        return (
            "a subscriber requests reliable and this node offers best effort, so it receives nothing; make it request "
            f"best effort, or set {setting} to reliable"
        )
    if policy == "durability":
        return (
            "a subscriber requests earlier messages (transient local) and this node keeps none (volatile), so it "
            "receives nothing; make it request volatile"
        )
    if policy == "type":
        return "a subscriber expects another message type, so it receives nothing; rename one of the topics"
    return f"a subscriber requests more than this node offers in its policy '{policy}', so it receives nothing"
