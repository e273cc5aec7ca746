"""The text of Mosquitto's access rules (`acl_file` in mosquitto.conf(5)).

Rights as the registry has them become lines. A line break ends a line and nothing can be quoted, so what the
format cannot carry is refused; likewise a wildcard that would reach into the feed's own topics, which it never
does in our server and always in Mosquitto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devices.profile import NO_RIGHTS, valid_device_id
from devices.topics import own_topics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from devices.profile import Profile, Rights

_HEAD = "# By fleetfeed broker-files, which writes all of this anew: changes made here are lost.\n"


class Unwritable(ValueError):  # noqa: N818 - names the finding
    """Something that these rules cannot say; the text says what and whose."""


def render(
    profiles: Iterable[Profile],
    *,
    gateway: str,
    prefix: str = "",
    read: Sequence[str] = (),
    write: Sequence[str] = (),
) -> str:
    """The rules for everybody in the registry.

    Args:
        profiles: Who there is.
        gateway: User name of the gateway.
        prefix: What stands before all topics of the feed.
        read: Filters over other topics that everybody may subscribe to.
        write: Filters over other topics that everybody may publish to.

    Raises:
        Unwritable: A name or a filter cannot be said.
    """
    blocks = [_HEAD, _block(gateway, _of_gateway(prefix))]
    for profile in profiles:
        if profile.rights != NO_RIGHTS and not profile.revoked:
            lines = list(_of_user(profile.device, profile.rights, prefix))
            if lines:
                blocks.append(_block(profile.device, lines))
    _, frames, ups = own_topics(prefix)
    common = [
        _line("pattern read", f"{_literal(frames)}%u"),
        _line("pattern write", f"{_literal(ups)}%u"),
    ]
    for verb, filters in (("read", read), ("write", write)):
        own = (_literal(_beside(each, prefix, "everybody")) for each in filters)
        common += (_line(f"pattern {verb}", each) for each in own)
    return "\n".join([*blocks, "".join(common)])


def _block(name: str, lines: Iterable[str]) -> str:
    if not valid_device_id(name):
        raise Unwritable(f"{name!r} is no name for a user: 1 to 64 of [A-Za-z0-9_.:-]")
    return _line("user", name) + "".join(lines)


def _of_gateway(prefix: str) -> Iterator[str]:
    items, frames, ups = own_topics(prefix)
    yield _line("topic read", f"{items}#")
    yield _line("topic read", f"{ups}+")
    yield _line("topic write", f"{frames}+")
    yield _line("topic write", f"{_metrics(prefix)}#")


def _of_user(name: str, rights: Rights, prefix: str) -> Iterator[str]:
    items, _, _ = own_topics(prefix)
    for channels in rights.publish:
        yield _line("topic write", items + channels)
    for verb, filters in (("read", rights.read), ("write", rights.write)):
        for each in filters:
            yield _line(f"topic {verb}", _beside(each, prefix, name))
    if rights.operator:
        yield _line("topic read", "$SYS/#")
        yield _line("topic read", f"{_metrics(prefix)}#")


def _metrics(prefix: str) -> str:
    return f"{prefix}feed/sys/"


def _beside(topic_filter: str, prefix: str, whose: str) -> str:
    """A filter over topics beside the feed, which must reach nothing of the feed."""
    for own in (*own_topics(prefix), _metrics(prefix)):
        if _overlap(topic_filter.split("/"), [*own.split("/")[:-1], "#"]):
            raise Unwritable(
                f"{topic_filter!r}, open to {whose}, would in Mosquitto reach {own}# too: give narrower"
                " filters"
            )
    return topic_filter


def _overlap(one: list[str], other: list[str]) -> bool:
    """Whether some topic matches both filters."""
    for mine, theirs in zip(one, other, strict=False):
        if "#" in (mine, theirs):
            return True
        if mine != theirs and "+" not in (mine, theirs):
            return False
    return len(one) == len(other) or (max(one, other, key=len)[min(len(one), len(other))] == "#")


def _literal(text: str) -> str:
    """What means itself in a pattern, where Mosquitto puts user name and client id for %u and %c."""
    if "%u" in text or "%c" in text:
        raise Unwritable(f"{text!r}: %u and %c have a meaning of their own in Mosquitto's patterns")
    return text


def _line(rule: str, text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise Unwritable(
            f"{text!r} has spaces around it or a control character, which Mosquitto's rules cannot say"
        )
    return f"{rule} {text}\n"
