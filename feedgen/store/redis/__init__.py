"""The shared store on Redis: one server, behind Sentinel, or a Redis Cluster.

store        RedisStore, what nodes use
items        records and numbers          tails       what other nodes do, as it comes
devices      holders and profiles         words       what nodes say to each other, feedback
members      who is alive                 checks      whether a Redis can be trusted
alone        for tools: everything at once
pipelines    commands until they have succeeded; link, topology, faults below it
lua/         the atomic steps
"""

from __future__ import annotations

from feedgen.store.redis.settings import RedisSettings
from feedgen.store.redis.store import RedisStore

__all__ = ["RedisSettings", "RedisStore"]
