"""What one of several nodes takes at some rates: CPU, memory, bytes on its network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.plan_redis import traffic_of_a_node

if TYPE_CHECKING:
    from broker.plan_costs import Costs
    from broker.plan_demand import Demand, Flow

MEASURED_PAYLOAD = 100
"""Payload bytes of the items in all measurements."""
ITEM = 100
"""Bytes of a published item besides its payload: topic, packet, the JSON around it."""
SEGMENT = 52
"""Bytes of an IPv4 and a TCP header with timestamps (RFC 791, 9293, 7323): every packet has them."""
PUBACK, CONNACK, SUBACK, PING, CONNECT, SUBSCRIBE, UP, EVENT = 4, 4, 5, 2, 60, 40, 20, 8
"""Bytes of MQTT packets with ids of ordinary length, and of a feedback event in one."""


def cpu_of_a_node(
    demand: Demand, flow: Flow, n: int, costs: Costs, *, alone: bool, flooded: bool = False
) -> dict[str, float]:
    """Return the CPU seconds a second of one of `n` nodes, by what for.

    - items: rate / n · what reading, accepting, storing and acknowledging one takes, and rate · (n - 1) / n
      · what it takes to hear of one that another node has read.
    - pushes: rate · what an item costs more for followers / n than for none, and what TLS adds to each.
    - connects: rate / n · (a connection with its snapshot; a claim and a release of the device).
    - up messages, feedback, pings: rate / n · the cost of one.
    - idle: timers, as measured with the largest fleet.

    Args:
        demand: Audience, QoS and TLS count here.
        flow: The rates.
        n: Nodes.
        costs: Of each.
        alone: A process with a store of its own: it shares nothing.
        flooded: Items wait together instead of coming one by one.
    """

    def item(audience: float) -> float:
        return costs.item_in_a_flood(audience) if flooded else costs.item(demand.qos, audience)

    def shared(*names: str) -> float:
        return 0.0 if alone else sum(costs[name] for name in names)

    def encrypted(name: str) -> float:
        return costs[name] if demand.tls else 0.0

    audience = demand.audience / n
    heard = (n - 1) / n * shared("node_read_item")
    connect = costs["connect"] + shared("node_claim", "node_release") + encrypted("tls_connect")
    packet = encrypted("tls_push_qos0")
    push = item(audience) - item(0) + audience * encrypted(f"tls_push_qos{demand.qos}")
    return {
        "items": flow.items * ((item(0) + shared("node_put_item")) / n + heard),
        "pushes": flow.items * push,
        "connects": flow.connects / n * connect,
        "up messages": flow.ups / n * (costs["up_message"] + packet),
        "feedback": flow.feedback / n * (costs["event_heard"] + shared("node_feedback")),
        "pings": flow.pings / n * (costs["ping"] + packet),
        "idle": costs["idle"],
    }


def memory_of_a_node(demand: Demand, n: int, costs: Costs, *, alone: bool) -> float:
    """Return the bytes of one of `n` nodes, its sockets in the kernel included.

    process + live items · each + connected devices / n · (each + socket + TLS). A process alone also
    has a row for every device that is away.
    """
    connection = costs["connected_bytes"] + costs["socket_bytes"]
    if demand.tls:
        connection += costs["tls_bytes"]
    away = (demand.devices - demand.connections) * costs["row_bytes"] if alone else 0.0
    item = max(costs["item_bytes"] + demand.payload - MEASURED_PAYLOAD, 0)
    return costs["process_bytes"] + demand.live * item + demand.connections / n * connection + away


def traffic(demand: Demand, flow: Flow, costs: Costs) -> tuple[float, float]:
    """Return the bytes a second to devices and publishers, and from them, TCP/IP headers included.

    Out: frames, snapshots, CONNACK, SUBACK, PUBACK, PINGRESP. In: items, PUBACK of frames at QoS 1,
    CONNECT and SUBSCRIBE, up messages, feedback of 8 bytes an event, PINGREQ.
    """
    frame = costs[f"frame_bytes_qos{demand.qos}"] + demand.payload - MEASURED_PAYLOAD
    out = (
        flow.pushes * (frame + SEGMENT)
        + flow.connects * (costs["snapshot_bytes"] + CONNACK + SUBACK + 3 * SEGMENT)
        + (flow.items + flow.ups) * (PUBACK + SEGMENT)
        + flow.pings * (PING + SEGMENT)
    )
    acknowledged = PUBACK + SEGMENT if demand.qos else 0
    into = (
        flow.items * (demand.payload + ITEM + SEGMENT)
        + flow.pushes * acknowledged
        + flow.connects * (CONNECT + SUBSCRIBE + 2 * SEGMENT + acknowledged)
        + flow.ups * (UP + SEGMENT)
        + flow.feedback * EVENT
        + flow.pings * (PING + SEGMENT)
    )
    return out, into


def busier_way(demand: Demand, flow: Flow, n: int, costs: Costs, *, alone: bool) -> float:
    """Return the bits a second of one of `n` nodes in the busier direction, Redis included."""
    out, into = traffic(demand, flow, costs)
    sent, read = (0.0, 0.0) if alone else traffic_of_a_node(demand, flow, n, costs)
    return 8 * max(out / n + sent, into / n + read)
