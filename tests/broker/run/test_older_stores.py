"""A server of today on the data of every older version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.broker.support import Served, item
from tests.feedgen.store.older_stores import PROFILES, RECORDS, write_schema_1

if TYPE_CHECKING:
    from pathlib import Path

SECRET_HASH = 10  # its place in a packed profile; without one, open registration lets the device in


@pytest.mark.parametrize("form", PROFILES)
async def test_a_device_of_an_older_store_goes_on_in_a_new_epoch(form: str, tmp_path: Path) -> None:
    profile = list(PROFILES[form])
    profile[SECRET_HASH] = None
    write_schema_1(tmp_path / "data", RECORDS[1], tuple(profile))
    served = Served(tmp_path / "data", {})
    await served.start()
    device = await served.device("oven", clean=False)
    await device.subscribe()
    snapshot = await device.snapshot()
    assert snapshot.epoch == 5_001  # what it holds of its position, no server can say
    assert snapshot.items == ()  # it dismissed the only one
    await served.publish(item("new", "new"), channel="news/local")
    await device.shows("new")
    assert device.number("new") == 9
    await served.drop_peers()
    await served.stop()
