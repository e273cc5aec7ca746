"""Several servers as one: nodes that share a store.

`items` accepts items that other nodes accept, too. `directory` holds devices, and nothing of MQTT: its
`entries` are one each, `writing` takes them to the store, `residence` lets the lane follow. By it the
lane's `arrivals` let clients in. `dismissals` and `shared_counts` tell other nodes what devices did; one
node is the `trainer`, with `training` and its `kept_state`, for all. `node` hears what the others did and
joins all of this; `stores` makes the store, `pulse` notices a standstill, `commands` are the operator's,
and `drain` empties a node before it stops. What is decided (what an item is, who may come in, what
a device is sent) stays where it is decided for one server alone.
"""
