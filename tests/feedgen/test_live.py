from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.channels import matches
from feedgen.live import LiveChannels

CHANNELS = ("a", "a/b", "a/b/c", "d", "$x", "$x/b", "a/$x", "a//b", "/")
FILTERS = ("#", "+", "a/#", "a/+", "a/b", "+/b", "+/#", "$x/#", "$x", "a/+/b", "/", "+/+", "a/$x/#")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(CHANNELS), max_size=20))
def test_filters_find_the_channels_that_have_live_items(program):
    live, index_of = LiveChannels(), {}
    for index, name in enumerate(program, 1):
        if name in index_of:
            live.discard(name, index_of.pop(name))
        else:
            live.add(name, index)
            index_of[name] = index
    assert len(live) == len(index_of)
    for topic_filter in FILTERS:
        found = [channel.name for channel in live.matching(topic_filter)]
        assert sorted(found) == sorted(name for name in index_of if matches(topic_filter, name))


def test_the_version_changes_with_channels_and_not_with_their_items():
    live = LiveChannels()
    live.add("a", 1)
    version = live.version
    live.add("a", 2)
    live.discard("a", 1)
    assert live.version == version
    live.discard("a", 2)
    assert live.version != version
