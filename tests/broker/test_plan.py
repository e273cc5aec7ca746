"""A plan is arithmetic on measured costs: it grows with what is asked, and says what it cannot do."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.plan import MOST, NUMBERS, Plan, plan
from broker.plan_costs import Cost, CostError, Costs, load, parse
from broker.plan_demand import GIB, Demand, Flow, Site
from broker.plan_growth import breaks, growth, remarks
from broker.plan_nodes import SEGMENT, cpu_of_a_node, memory_of_a_node, traffic
from broker.plan_redis import cpu_of_redis, memory_of_redis
from broker.plan_search import fewest

COSTS = load()
SITE = Site()

demands = st.builds(
    Demand,
    devices=st.integers(10_000, 10**9),
    items_per_s=st.floats(0.001, 500),
    followers=st.floats(1, 10_000),
    connected=st.floats(0.001, 1),
    requests_per_s=st.floats(1, 10**6),
    connects=st.floats(0, 1),
    feedback_per_s=st.floats(1, 10**6),
    ttl=st.floats(1, 10**6),
    payload=st.integers(1, 1000),
    qos=st.integers(0, 1),
    tls=st.booleans(),
)

MIDDLING = Demand(
    devices=1_000_000,
    items_per_s=10,
    followers=10_000,
    requests_per_s=1000,
    feedback_per_s=500,
)


def wanted(found: Plan) -> tuple[float, float]:
    """Nodes and masters, more than any number where none is enough."""
    if found.nodes is None:
        return float("inf"), float("inf")
    if found.redis is None:
        return found.nodes, 0
    masters = found.redis.masters
    return found.nodes, float("inf") if masters is None else masters


# Growth


@pytest.mark.parametrize(
    "grows", ["devices", "items_per_s", "followers", "requests_per_s", "feedback_per_s", "ttl", "payload", "connected", "peak"]
)  # fmt: skip
@settings(max_examples=60, deadline=None)
@given(demand=demands, times=st.floats(1.01, 50))
def test_a_plan_never_shrinks_when_an_input_grows(grows: str, demand: Demand, times: float) -> None:
    more = times * getattr(demand, grows)
    whole = grows in ("devices", "payload")
    if grows == "connected":
        more = min(more, 1.0)
    elif grows == "followers":
        more = min(more, demand.devices)
    larger = replace(demand, **{grows: int(more) if whole else more})
    before, after = plan(demand, SITE, COSTS), plan(larger, SITE, COSTS)
    assert wanted(after)[0] >= wanted(before)[0]
    assert wanted(after)[1] >= wanted(before)[1]
    assert after.out_bits >= before.out_bits
    assert (after.spike_nodes or MOST + 1) >= (before.spike_nodes or MOST + 1)


@settings(max_examples=60, deadline=None)
@given(demand=demands)
def test_at_the_planned_number_nothing_is_fuller_than_the_target_and_at_one_less_something_is(
    demand: Demand,
) -> None:
    found = plan(demand, SITE, COSTS)
    if found.nodes is None:
        assert any(need.number is None for need in found.needs)
        return
    assert all(need.share <= SITE.target for need in found.needs)
    assert found.nodes == max(need.number or 0 for need in found.needs)
    binding = next(need for need in found.needs if need.resource == found.binding)
    assert binding.number == found.nodes
    if found.nodes > 1:
        one_less = {
            "CPU": sum(
                cpu_of_a_node(demand, found.peak, found.nodes - 1, COSTS, alone=False).values()
            ),
            "memory": memory_of_a_node(demand, found.nodes - 1, COSTS, alone=False)
            / SITE.node_memory,
            "connections": demand.connections / (found.nodes - 1) / SITE.node_connections,
        }
        if found.binding in one_less:
            assert one_less[found.binding] > SITE.target


def test_the_smallest_number_is_found_wherever_it_is() -> None:
    for most in (1, 2, 3, 100, 1000):
        for wanted_number in range(1, most + 1):
            assert fewest(lambda n, w=wanted_number: w / n, 1.0, most) == wanted_number
        assert fewest(lambda n, w=most + 1: w / n, 1.0, most) is None


# What it says


def test_a_small_fleet_is_one_process_without_redis() -> None:
    found = plan(Demand(devices=10_000, items_per_s=1, followers=1000), SITE, COSTS)
    assert found.alone
    assert found.nodes == 1
    assert found.redis is None


def test_a_process_alone_has_rows_for_devices_that_are_away() -> None:
    # The same connections: what differs is how many devices are known.
    few = Demand(devices=20_000, connected=1.0, items_per_s=0.1, followers=10)
    many = replace(few, devices=4_000_000, connected=0.005)
    assert plan(few, SITE, COSTS).alone
    found = plan(many, SITE, COSTS)
    assert not found.alone
    assert found.redis is not None


def test_too_many_live_items_have_no_number_of_nodes() -> None:
    found = plan(replace(MIDDLING, ttl=30 * 86_400.0), SITE, COSTS)
    assert found.nodes is None
    assert not found.possible
    said = re.fullmatch(
        r"no: memory, every node holds every item; over ([\d.]+) GiB each", breaks(found)
    )
    assert said is not None
    for factor, possible in ((0.98, False), (1.02, True)):
        site = replace(SITE, node_memory=factor * float(said[1]) * GIB)
        assert plan(replace(MIDDLING, ttl=30 * 86_400.0), site, COSTS).possible is possible


def test_too_many_items_a_second_have_no_number_of_nodes() -> None:
    found = plan(replace(MIDDLING, items_per_s=50_000.0, followers=1.0, ttl=1.0), SITE, COSTS)
    assert found.nodes is None
    assert breaks(found) == "no: CPU, every node reads every item"
    assert remarks(found) == [f"item numbers last {NUMBERS / 50_000 / 86_400:.0f} days"]


CROWD = Demand(devices=10**7, connected=1.0, items_per_s=500, followers=1, ttl=60.0, peak=1)


def test_what_every_node_reads_is_shared_by_as_many_masters_as_there_are_partitions() -> None:
    found = plan(CROWD, replace(SITE, partitions=1), dear("redis_read_item", 10))
    assert found.redis is not None
    assert found.redis.masters is None
    assert not found.possible
    assert "every node reads every item, from 1 partitions" in breaks(found)
    more = plan(CROWD, replace(SITE, partitions=100), dear("redis_read_item", 10))
    assert more.redis is not None
    assert more.redis.masters is not None


def test_the_heartbeats_of_all_nodes_are_one_masters() -> None:
    found = plan(CROWD, SITE, dear("redis_node", 100))
    assert breaks(found) == "no: Redis CPU: heartbeats of all nodes go to one master"


def dear(name: str, times: float) -> Costs:
    """Return the costs of this release with one of them so many times as large."""
    entries = dict(COSTS.entries)
    entries[name] = replace(entries[name], value=times * entries[name].value)
    return Costs(entries, COSTS.machine)


def test_a_trainer_beyond_its_capacity_samples() -> None:
    some = plan(MIDDLING, SITE, COSTS)
    assert some.learned == 1
    many = plan(replace(MIDDLING, feedback_per_s=1e6), SITE, COSTS)
    assert many.learned == pytest.approx(SITE.trainer / (3e6 * COSTS["event_learned"]))
    assert remarks(many) == [f"learns from {many.learned:.1%}"]


def test_a_spike_says_how_many_nodes_would_not_let_work_wait() -> None:
    found = plan(replace(MIDDLING, spike=1000.0), SITE, COSTS)
    assert found.nodes is not None
    assert found.spike_share > 1
    assert found.spike_nodes is None or found.spike_nodes > found.nodes


def test_growth_names_every_input_that_is_not_zero() -> None:
    quiet = replace(MIDDLING, requests_per_s=0, feedback_per_s=0)
    assert {each.what for each in growth(quiet, SITE, COSTS)} == {
        "devices", "items_per_s", "followers", "ttl", "payload",
    }  # fmt: skip
    impossible = [
        each.factor for each in growth(quiet, SITE, COSTS) if each.plan is None and each.what == "followers"
    ]  # fmt: skip
    assert impossible == []
    crowded = replace(quiet, followers=quiet.devices)
    assert [e.factor for e in growth(crowded, SITE, COSTS) if e.plan is None] == [2, 10, 100]


# Units


SECONDS = """idle connect ping up_message event_heard event_learned tls_push_qos0 tls_push_qos1 tls_connect
    node_put_item node_read_item node_claim node_release node_feedback
    redis_put_item redis_read_item redis_claim redis_release redis_feedback redis_node"""
OCTETS = """frame_bytes_qos0 frame_bytes_qos1 snapshot_bytes connected_bytes socket_bytes process_bytes
    item_bytes row_bytes tls_bytes
    redis_item_bytes redis_device_bytes redis_read_bytes redis_claim_bytes redis_feedback_bytes"""


def plain(**changed: float) -> Costs:
    """Return costs of which every one is a second or a byte, items 1 s and a follower 1 s."""
    seconds = dict.fromkeys(SECONDS.split(), 1.0)
    for curve in ("item_qos0", "item_qos1", "flood"):
        seconds |= {f"{curve}_to_0": 1.0, f"{curve}_to_10": 11.0}
    entries = {name: Cost(value, "s", "", "", "") for name, value in (seconds | changed).items()}
    entries |= {name: Cost(1.0, "bytes", "", "", "") for name in OCTETS.split()}
    return Costs(entries)


FLEET = Demand(
    devices=100,
    connected=0.5,
    items_per_s=2,
    followers=8,
    requests_per_s=10,
    connects=0.25,
    feedback_per_s=3,
    ttl=5,
    keep_alive=10,
    payload=101,
)


def test_rates_follow_from_the_demand() -> None:
    assert FLEET.flow(2) == Flow(items=4, pushes=16, connects=5, ups=15, feedback=6, pings=5)
    assert (FLEET.connections, FLEET.audience, FLEET.live) == (50, 4, 10)


def test_the_cpu_of_a_node_is_rates_times_costs() -> None:
    flow = FLEET.flow(1)
    assert cpu_of_a_node(FLEET, flow, 2, plain(), alone=False) == {
        "items": 2 * ((1 + 1) / 2 + 1 / 2),  # half of them read and put, half heard of
        "pushes": 2 * 2,
        "connects": 2.5 / 2 * 3,  # connection, claim, release
        "up messages": 7.5 / 2,
        "feedback": 3 / 2 * 2,
        "pings": 5 / 2,
        "idle": 1,
    }
    alone = cpu_of_a_node(FLEET, flow, 1, plain(), alone=True)
    assert alone["items"] == 2
    assert alone["connects"] == 2.5
    encrypted = cpu_of_a_node(replace(FLEET, tls=True), flow, 1, plain(), alone=True)
    assert encrypted["pushes"] == 2 * alone["pushes"]
    assert encrypted["connects"] == 2 * alone["connects"]


def test_a_flood_is_counted_by_what_items_cost_together() -> None:
    cheap = plain(flood_to_0=0.5, flood_to_10=0.5)
    found = cpu_of_a_node(FLEET, FLEET.flow(1), 1, cheap, alone=True, flooded=True)
    assert found["items"] == 1
    assert found["pushes"] == 0


def test_the_memory_of_a_node_holds_all_items_and_its_share_of_connections() -> None:
    # A payload one byte longer than the measured one makes an item one byte longer.
    assert memory_of_a_node(FLEET, 2, plain(), alone=False) == 1 + 10 * 2 + 25 * 2
    assert memory_of_a_node(FLEET, 1, plain(), alone=True) == 1 + 10 * 2 + 50 * 2 + 50
    tls = replace(FLEET, tls=True)
    assert memory_of_a_node(tls, 2, plain(), alone=False) == 1 + 10 * 2 + 25 * 3


def test_every_packet_on_the_network_has_its_headers() -> None:
    quiet = Demand(devices=100, items_per_s=1, followers=10, connected=1.0, keep_alive=100)
    out, into = traffic(quiet, quiet.flow(1), plain())
    # A frame of one byte to each of ten, the publisher's PUBACK, a PINGRESP.
    assert out == 10 * (1 + SEGMENT) + (4 + SEGMENT) + (2 + SEGMENT)
    # The item, ten PUBACKs, a PINGREQ.
    assert into == (200 + SEGMENT) + 10 * (4 + SEGMENT) + (2 + SEGMENT)


def test_redis_works_for_each_node_that_reads_an_item() -> None:
    found = cpu_of_redis(FLEET.flow(1), 7, plain())
    assert found["items stored"] == 2
    assert found["items read by nodes"] == 14
    assert found["devices claimed"] == 2.5
    assert memory_of_redis(FLEET, plain()) == {"items": 10 * 2, "devices": 100}


# Costs


def test_an_item_costs_what_was_measured_and_a_line_between() -> None:
    costs = plain(item_qos1_to_0=1.0, item_qos1_to_10=2.0, item_qos1_to_100=11.0)
    expected = {0: 1.0, 5: 1.5, 10: 2.0, 55: 6.5, 100: 11.0, 200: 21.0}
    assert {at: costs.item(1, at) for at in expected} == pytest.approx(expected)


def test_the_costs_of_this_release_are_complete_dated_and_commented() -> None:
    assert COSTS.machine["cores"] >= 1
    for name, cost in COSTS.entries.items():
        assert cost.value > 0, name
        assert cost.how, name
        assert cost.command.startswith("python benchmarks/costs.py --only "), name
        assert len(cost.date) == len("2026-01-01"), name
    assert plan(replace(MIDDLING, devices=10**8, tls=True), SITE, COSTS).nodes is not None
    # What a plan with more nodes is smaller by: an item read costs more than one heard of.
    assert COSTS.item(1, 0) + COSTS["node_put_item"] > COSTS["node_read_item"]


def test_units_become_seconds_and_bytes() -> None:
    for unit, expected in (("ns of CPU", 2e-9), ("µs", 2e-6), ("ms", 2e-3), ("bytes", 2.0)):
        assert Cost(2.0, unit, "", "", "").base == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read"),
        ("{}", "cannot be read"),
        ('{"machine": {}, "costs": {"x": {"value": 1}}}', "cannot be read"),
        ('{"machine": {}, "costs": {}}', "no item_qos0_to_0"),
    ],
)
def test_a_data_file_that_is_none_is_refused_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(CostError, match=said):
        parse(text)


def test_an_unknown_unit_is_refused() -> None:
    entry = {"value": 1, "unit": "furlongs", "how": "", "part": "", "command": "", "date": ""}
    with pytest.raises(CostError, match="furlongs"):
        parse(json.dumps({"machine": {}, "costs": {"x": entry}}))


def test_items_that_get_cheaper_with_followers_are_a_mistake_of_the_measurement() -> None:
    with pytest.raises(CostError, match="measure again"):
        plain(item_qos1_to_10=0.5)


def test_a_missing_cost_is_named() -> None:
    with pytest.raises(CostError, match="'nothing'"):
        COSTS["nothing"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"followers": 101}, "at most as many"),
        ({"connected": 1.5}, "a share"),
        ({"items_per_s": -1}, "items_per_s"),
        ({"items_per_s": float("nan")}, "items_per_s"),
        ({"peak": 0.5}, "peak"),
        ({"payload": 100_000}, "payload"),
        ({"qos": 2}, "qos"),
    ],
)
def test_a_demand_that_is_none_is_refused_in_a_sentence(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(FLEET, **wrong)  # type: ignore[arg-type]


def test_a_site_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="target"):
        Site(target=0)
    with pytest.raises(ValueError, match="node_memory"):
        Site(node_memory=0)


def test_no_plan_has_more_nodes_than_one_would_believe() -> None:
    found = plan(replace(MIDDLING, devices=10**12, connected=1.0), SITE, COSTS)
    assert found.nodes is None
    assert all(need.number is None or need.number <= MOST for need in found.needs)
