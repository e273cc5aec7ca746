"""Which topics are the feed's own, and which filters over other topics give nobody anything.

What lies within the feed goes by rights over channels; what begins with `$` is the server's (MQTT 3.1.1,
4.7.2). A right to read or write there would look granted and never be.
"""

from __future__ import annotations


def own_topics(prefix: str) -> tuple[str, str, str]:
    """What stands before a channel, and before a device's id downwards and upwards."""
    return f"{prefix}items/", f"{prefix}f/", f"{prefix}u/"


def within_feed(topic_filter: str, prefix: str) -> bool:
    """Whether a filter lies within the topics of the feed, which no wildcard may reach into."""
    return f"{topic_filter}/".startswith(own_topics(prefix))


def futility(topic_filter: str, prefix: str) -> str | None:
    """Why a right to read or write `topic_filter` would give nothing; None if it gives something."""
    if topic_filter.startswith("$"):
        return "of what begins with '$', operators read $SYS (--operator) and nobody anything else"
    if within_feed(topic_filter, prefix):
        own = ", ".join(own_topics(prefix))
        return f"{own} are the feed's own, which go by channels (--publish, --may-follow)"
    return None
