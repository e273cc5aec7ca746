"""Redis for the tests of shared stores: started once, as a cluster takes seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.redis_servers import RedisCluster, RedisServer, redis_cluster, redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers
