"""Several servers as one: nodes that share a store.

`items` accepts items that other nodes accept, too. `directory` holds devices, and nothing of MQTT; by it
the lane's `arrivals` let clients in. `node` hears what the other nodes did and lets go of devices that
have left. `drain` empties a node before it stops. What is decided (what an item is, who may come in, what
a device is sent) stays where it is decided for one server alone.
"""
