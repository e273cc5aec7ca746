"""The fault suite: seeded rounds of trouble against real servers, each followed by rest and judgement.

`plan` draws what goes wrong in a round; `trouble` carries out what goes wrong with clients, `server_trouble` with one
server, `node_trouble` with several nodes and their Redis. `site` is one or the other with all who connect there,
`season` runs rounds at a site, `rest` ends each by comparing everything, `suite` runs seasons, `report` draws what
came of them. The clients: `link` is a connection that can be cut, left open or not read, `route` the addresses that a
client knows; `devices` with `firmware`, `behaviour` and the `journal` of what each did, `publishers`, the `healthy`
ones that show what sick neighbours cost and, in `availability`, what a fault of the server costs; and `intruder`, who
means harm. `server` says what the suite needs of server processes.
"""
