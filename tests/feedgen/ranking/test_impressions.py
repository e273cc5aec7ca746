from __future__ import annotations

import numpy as np
import pytest

from feedgen.ranking.chains import NOWHERE
from feedgen.ranking.impressions import NEVER, NO_RANK, NO_REF, Impressions


@pytest.fixture
def table() -> Impressions:
    return Impressions()


def test_nothing_but_the_beginning_is_known_of_a_new_impression(table):
    place = table.add(7, 1, 5.0)
    assert table.find(7, 1) == place
    assert (table.begun[place], table.opened[place], table.dismissed[place]) == (5.0, NEVER, NEVER)
    assert (table.rank[place], table.ref[place], table.dwell[place]) == (NO_RANK, NO_REF, -1.0)


def test_a_place_that_was_left_is_used_again_and_remembers_nothing(table):
    places = [table.add(7, n, 5.0) for n in range(100)]
    assert len(set(places)) == 100
    for place in places:
        table.rank[place] = 3
        table.flags[place] = 255
        table.remove(place)
    again = [table.add(8, n, 6.0) for n in range(100)]
    assert set(again) <= set(range(len(table.next)))
    assert len(table.next) < 130
    assert table.find(7, 3) == NOWHERE
    assert {table.rank[place] for place in again} == {NO_RANK}
    assert {table.flags[place] for place in again} == {0}


def test_a_column_is_a_copy_that_later_growth_does_not_disturb(table):
    places = np.array([table.add(7, n, float(n)) for n in range(3)])
    begun = table.column("begun", places)
    table.update("begun", places[:1], np.array([9.0]))
    for n in range(3, 1000):
        table.add(7, n, 0.0)
    assert begun.tolist() == [0.0, 1.0, 2.0]
    assert table.column("begun", places).tolist() == [9.0, 1.0, 2.0]


def test_what_was_packed_comes_back_at_the_first_places(table):
    for n in range(5):
        table.add(2**64 - 1, n, float(n))
    table.remove(table.find(2**64 - 1, 2))
    places = np.array([table.find(2**64 - 1, n) for n in (4, 0, 3)])
    packed = table.pack(places)
    again = Impressions()
    again.restore(packed)
    assert [again.find(2**64 - 1, n) for n in (4, 0, 3)] == [0, 1, 2]
    assert again.pack(np.arange(3)) == packed
    assert again.add(7, 9, 1.0) >= 3
