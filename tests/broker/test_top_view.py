"""The picture of `fleetfeed top` and the rounds that it is of: figures as texts in, numbers and characters out."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from broker.commands.top_panels import PANELS
from broker.commands.top_rounds import KEPT, SYS, Rounds, figures, gateways
from broker.commands.top_state import LEVELS, RUNGS, Scene, Tone, concerns
from broker.commands.top_text import bars, brief, duration, milliseconds, per_second, size
from broker.commands.top_view import page, picture
from broker.figures.catalog import FIGURES
from broker.overload.levels import Level
from feedgen.ranking.ladder import Rung

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

LEAVES = {
    leaf.root + path for figure in FIGURES.values() for leaf in figure.leaves for path in leaf.paths
}
OURS = {
    "$SYS/broker/feed/version": "1.2.3",
    "$SYS/broker/version": "fleetfeed version 1.2.3",
    **{leaf: "0" if "/load/" in leaf else "7" for leaf in LEAVES},
    "$SYS/broker/feed/overload/level": "0",
    "$SYS/broker/feed/devices/stalled": "0",
    "$SYS/broker/feed/ranking/rung": "0",
    "$SYS/broker/feed/ranking/alarms": "0",
}
MOSQUITTO = {
    "$SYS/broker/version": "mosquitto version 2.0.11",
    "$SYS/broker/uptime": "3600 seconds",
    "$SYS/broker/clients/connected": "12",
    "$SYS/broker/messages/sent": "1204",
    "$SYS/broker/load/messages/sent/1min": "120.00",
    "$SYS/broker/heap/current": "47000",
}


def of(
    *texts: Mapping[str, str], prefix: str = "", gateway: str = "", every: float = 1.0
) -> Rounds:
    """Rounds that came one after the other, all but the first when they were told."""
    rounds = Rounds()
    for place, each in enumerate(texts):
        rounds.add(figures(each, prefix, gateway), place * every, dated=place > 0)
    return rounds


def counted(*values: int | None, name: str = "frames/sent", **more: str) -> Rounds:
    """Rounds of one counter, a second apart, all of them dated."""
    rounds = Rounds()
    for at, value in enumerate(values):
        told = {} if value is None else {f"feed/{name}": str(value)}
        rounds.add({"feed/uptime": str(100 + at), **told, **more}, float(at), dated=True)
    return rounds


def drawn(shown: RenderableType, width: int = 80) -> str:
    console = Console(width=width, file=StringIO(), record=True, color_system=None)
    console.print(shown)
    return console.export_text()


def at(rounds: Rounds, **more: object) -> Scene:
    return Scene("here:1883", rounds, rounds.at or 0.0, **more)  # type: ignore[arg-type] # as named


# Rounds


def test_a_counter_grows_by_what_came_between_two_rounds() -> None:
    rounds = counted(10, 14, 24)
    assert rounds.rate("feed/frames/sent") == 10
    assert rounds.rates("feed/frames/sent", 3) == [None, 4, 10]
    assert rounds.rates("feed/frames/sent", 1) == [10]


def test_a_server_that_starts_anew_does_not_count_backwards() -> None:
    rounds = counted(10, 14)
    rounds.add({"feed/uptime": "1", "feed/frames/sent": "20"}, 2.0, dated=True)
    assert rounds.rate("feed/frames/sent") is None
    rounds.add({"feed/uptime": "2", "feed/frames/sent": "25"}, 3.0, dated=True)
    assert rounds.rate("feed/frames/sent") == 5


def test_no_age_is_told_of_retained_figures() -> None:
    rounds = Rounds()
    rounds.add({"feed/uptime": "100"}, 0.0, dated=False)
    assert "told some time ago" in drawn(picture(at(rounds), 80, 24))
    rounds.add({"feed/uptime": "120"}, 1.0, dated=True)
    assert "told 0 s ago" in drawn(picture(at(rounds), 80, 24))


def test_how_old_retained_figures_are_is_known_by_the_uptime() -> None:
    rounds = Rounds()
    rounds.add({"feed/uptime": "100", "feed/frames/sent": "0"}, 0.0, dated=False)
    rounds.add({"feed/uptime": "120", "feed/frames/sent": "40"}, 1.0, dated=True)
    assert rounds.rate("feed/frames/sent") == 2


def test_an_uptime_in_whole_seconds_is_no_clock_for_one_second() -> None:
    rounds = Rounds()
    rounds.add({"feed/uptime": "100", "feed/frames/sent": "0"}, 0.0, dated=False)
    rounds.add({"feed/uptime": "101", "feed/frames/sent": "40"}, 0.1, dated=True)
    assert rounds.rate("feed/frames/sent") is None


def test_before_there_are_two_rounds_the_average_of_the_server_serves() -> None:
    rounds = of({f"{SYS}messages/sent": "9", f"{SYS}load/messages/sent/1min": "120.00"})
    assert rounds.rate("messages/sent") == 2
    rounds = of(
        {f"{SYS}publish/messages/sent": "9", f"{SYS}load/publish/sent/1min": "60"},
    )
    assert rounds.rate("publish/messages/sent") == 1


def test_a_round_that_comes_in_pieces_is_one() -> None:
    rounds = of(OURS, OURS, OURS | {"$SYS/broker/feed/frames/sent": "8"})
    assert len(rounds) == 1
    assert rounds.number("feed/frames/sent") == 8


def test_the_interval_of_a_server_is_what_lies_between_its_rounds() -> None:
    assert counted(1).interval is None
    assert counted(1, 2, 3).interval == 1


def test_no_more_rounds_are_kept_than_a_screen_shows() -> None:
    rounds = counted(*range(KEPT + 10))
    assert len(rounds) == KEPT


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()), max_size=8))
@settings(max_examples=60)
def test_a_rate_is_never_negative(told: list[tuple[int, int, bool]]) -> None:
    rounds = Rounds()
    for place, (uptime, sent, dated) in enumerate(told):
        rounds.add({"uptime": f"{uptime} seconds", "x": str(sent)}, place * 0.3, dated=dated)
    assert all(rate is None or rate >= 0 for rate in rounds.rates("x", 10))
    assert len(rounds.rates("x", 4)) == len(rounds.values("x", 4)) <= 4


def test_what_is_no_plain_number_is_no_figure() -> None:
    told = {
        f"{SYS}a": "{}",
        f"{SYS}b": "-1",
        f"{SYS}c": "1e5",
        f"{SYS}d": "",
        f"{SYS}e": "5 seconds",
    }
    assert of(told).numbers == {"e": 5}


def test_gateways_are_found_by_name_and_their_figures_stand_where_ours_do() -> None:
    texts = {
        **MOSQUITTO,
        "site/feed/sys/b/frames/sent": "2",
        "site/feed/sys/a/frames/sent": "1",
        "feed/sys/other/frames/sent": "3",
    }
    assert gateways(texts, "site/") == ["a", "b"]
    assert figures(texts, "site/", "b")["feed/frames/sent"] == "2"
    assert figures(texts, "site/", "b")["clients/connected"] == "12"


# What the catalog has


class Asking(Rounds):
    """Rounds that know everything, and what was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def number(self, name: str) -> float | None:
        self.asked.add(name)
        return 0.0

    def rate(self, name: str) -> float | None:
        self.asked.add(name)
        return 0.0

    def tells(self, *names: str) -> bool:
        self.asked |= {*names}
        return True


def test_every_figure_that_the_picture_looks_for_is_one_that_servers_tell() -> None:
    rounds = Asking()
    rounds.add({"feed/uptime": "1"}, 0.0, dated=True)
    drawn(picture(at(rounds), 200, 60))
    # p50 of some latencies is not told; that a gateway is up is told by it alone.
    unknown = {name for name in rounds.asked if SYS + name not in LEAVES} - {"feed/up"}
    assert {name for name in unknown if "/latency/" not in name} == set()


def test_there_are_words_for_every_level_and_every_rung() -> None:
    assert len(LEVELS) == len(Level)
    assert len(RUNGS) == len(Rung)


# The picture


def test_80_by_24_characters_are_filled_and_not_one_more() -> None:
    lines = drawn(picture(at(of(OURS, OURS | {f"{SYS}feed/uptime": "9"})))).splitlines()
    assert len(lines) == 24
    assert max(map(len, lines)) == 80
    shown = "\n".join(lines)
    for title in (
        "devices",
        "items and frames",
        "latency in ms",
        "overload",
        "lost or refused",
        "server",
    ):
        assert f"─ {title} ─" in shown
    assert "fleetfeed 1.2.3  here:1883" in lines[0]
    assert "no room for: clients, MQTT packets, ranking" in lines[-1]


@given(
    st.integers(30, 220),
    st.integers(8, 70),
    st.sets(st.sampled_from(sorted(LEAVES))),
    st.integers(0, 10**13),
    st.integers(1, 4),
)
@settings(max_examples=80, deadline=None)
def test_whatever_is_told_the_picture_fits_the_terminal(
    width: int, height: int, leaves: set[str], value: int, many: int
) -> None:
    texts = [dict.fromkeys(leaves, str(value + each)) for each in range(many)]
    scene = at(of(*texts), others=("a", "b"))
    lines = drawn(picture(scene, width, height), width).splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_more_lines_show_more_panels_and_then_taller_charts() -> None:
    rounds = counted(*range(0, 100, 5))
    low, high = (drawn(picture(at(rounds), 80, height)) for height in (8, 24))
    assert low.count("█") < high.count("█")
    everything = drawn(picture(at(of(OURS)), 200, 50), 200)
    assert all(f"─ {each.title} ─" in everything for each in PANELS)
    assert "no room" not in everything


def test_a_narrow_terminal_has_charts_without_peaks() -> None:
    scene = at(counted(*range(9)))
    assert "peak 1/s" in drawn(picture(scene))
    narrow = drawn(picture(scene, 50, 24), 50)
    assert "peak" not in narrow
    assert "1/s" in narrow


def test_of_a_plain_mosquitto_it_shows_what_that_tells_and_says_what_is_missing() -> None:
    shown = drawn(picture(at(of(MOSQUITTO))))
    assert "mosquitto 2.0.11" in shown
    assert "up 1 h" in shown
    assert "47.0 kB" in shown
    assert "tells nothing of a feed" in shown
    assert "not told: devices, items and frames, latency in ms, overload" in shown


def test_all_is_well_is_said_in_green_and_what_is_not_in_words() -> None:
    assert concerns(at(of(OURS))) == []
    assert "● no overload, store up, ranked by what is learned" in drawn(picture(at(of(OURS))))


@pytest.mark.parametrize(
    ("leaf", "value", "tone", "words"),
    [
        ("store/up", "0", Tone.BAD, "the store is down"),
        ("overload/level", "2", Tone.CARE, "overload 2: windows are less diverse"),
        ("overload/level", "5", Tone.BAD, "publishers that send most are not read"),
        ("overload/level", "9", Tone.BAD, "overload 9: of a later version"),
        ("devices/stalled", "1200", Tone.CARE, "1 200 stalled"),
        ("ranking/alarms", "1", Tone.CARE, "the ranking's model has alarms"),
    ],
)
def test_what_an_operator_should_look_at_is_said(
    leaf: str, value: str, tone: Tone, words: str
) -> None:
    scene = at(of(OURS | {f"{SYS}feed/{leaf}": value}))
    ((found, said),) = concerns(scene)
    assert found is tone
    assert words in said
    assert words in drawn(picture(scene))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("errors/total", "see its log"),
        ("items/rejected", "items are refused"),
        ("frames/dropped", "frames are given up"),
        ("queue/evicted", "messages are dropped"),
    ],
)
def test_losses_matter_while_they_grow_and_not_because_there_were_some(
    name: str, words: str
) -> None:
    (growing,) = concerns(at(counted(1, 2, name=name)))
    assert words in growing[1]
    assert concerns(at(counted(1, 2, 2, name=name))) == []


def test_a_lost_server_is_the_first_thing_that_is_said() -> None:
    scene = at(of(OURS | {f"{SYS}feed/overload/level": "3"}), connected=False)
    assert next(words for _, words in concerns(scene)) == "lost the server, trying again"


def test_figures_that_do_not_come_any_more_are_called_old() -> None:
    rounds = counted(1, 2, 3)
    fresh, old = (Scene("here", rounds, now) for now in (5.0, 12.0))
    assert concerns(fresh) == []
    assert concerns(old) == [(Tone.BAD, "no news for 10 s")]
    assert "told 10 s ago" in drawn(picture(old))


def test_before_anything_was_told_it_says_that_it_waits_and_then_why() -> None:
    assert "waiting for its figures" in drawn(picture(at(Rounds())))
    assert "tells nothing" in drawn(picture(at(Rounds(), advice="here tells nothing")))


def test_what_a_server_says_of_itself_does_nothing_to_the_terminal() -> None:
    rounds = of(OURS | {"$SYS/broker/feed/version": "1.0 \x1b[2J[bold]x[/bold]" + "y" * 100})
    shown = drawn(picture(at(rounds)))
    assert "\x1b" not in shown
    assert "[bold]x[/bold]" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_gateway_and_those_beside_it_are_named() -> None:
    texts = MOSQUITTO | {"feed/sys/a/frames/sent": "1", "feed/sys/a/up": "1"}
    shown = drawn(picture(at(of(texts, gateway="a"), gateway="a", others=("b",)), 110), 110)
    assert "gateway a" in shown
    assert "other gateways (--gateway): b" in shown
    gone = of(texts | {"feed/sys/a/up": "0"}, gateway="a")
    assert (Tone.BAD, "the gateway is gone") in concerns(at(gone))


def test_on_paper_there_are_all_panels_and_no_charts() -> None:
    shown = drawn(page(at(of(OURS))))
    assert all(f"─ {each.title} ─" in shown for each in PANELS)
    assert "column" not in shown


# Numbers and charts


@given(st.floats(0, 1e16))
def test_numbers_stay_as_short_as_their_columns(number: float) -> None:
    assert len(brief(number)) <= 7 - 2 * (number < 9.99e14)
    assert len(size(number)) <= 9 - (number < 9.99e14)
    assert len(per_second(number)) <= 9
    assert len(milliseconds(min(number, 1e6))) <= 5


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0"),
        (999, "999"),
        (9_999, "9 999"),
        (10_000, "10.0k"),
        (999_999, "1.00M"),
        (2.5e9, "2.50G"),
    ],
)
def test_counts_are_exact_while_there_is_room(number: float, words: str) -> None:
    assert brief(number) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3_720, "1 h 2 min"), (90_000, "1 d 1 h")],
)
def test_times_are_told_in_their_two_largest_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_chart_ends_with_the_newest_and_leaves_a_gap_where_nobody_knows() -> None:
    (line,) = bars([1, None, 0, 4], 6, 1)
    assert line.plain == "  ▂ ▁▇"
    tall = bars([0, 4], 2, 3)
    assert [each.plain for each in tall] == [" ▇", " █", "▁█"]
