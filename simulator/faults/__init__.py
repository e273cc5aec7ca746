"""The fault suite: seeded rounds of trouble against a real server, each followed by rest and judgement.

`plan` draws what goes wrong in a round, `trouble` carries it out, `season` runs rounds on one data directory, `rest` ends
each by comparing everything, `suite` runs seasons, `report` draws what came of them. The clients: `link` is a connection
that can be cut, left open or not read; `devices` with `firmware` and `behaviour`, `publishers`, the `healthy` pair that
shows what sick neighbours cost, and `intruder`, who means harm. `server` says what the suite needs of a server process.
"""
