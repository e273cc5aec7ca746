"""Draws by name: the same for the same counters, and as good as independent otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import draws

MANY = np.arange(200_000)


def test_a_draw_is_the_same_on_every_machine_and_in_every_release() -> None:
    assert draws.mixed(0).item() == 16294208416658607535  # SplitMix64's first output for seed 0
    assert draws.uniform(7, 1, 2).item() == pytest.approx(0.9183409722178649, abs=1e-15)


@given(
    st.integers(-(2**63), 2**64 - 1),
    st.lists(st.integers(-1, 2**63 - 1), min_size=1, max_size=20),
    st.randoms(),
)
@settings(max_examples=50)
def test_a_draw_does_not_depend_on_what_is_drawn_beside_it(seed, counters, random) -> None:
    alone = {each: draws.uniform(seed, 3, each).item() for each in counters}
    shuffled = random.sample(counters, len(counters))
    together = draws.uniform(seed, 3, np.array(shuffled)).tolist()
    assert together == [alone[each] for each in shuffled]
    assert all(0 < each < 1 for each in together)


def test_counters_broadcast_and_their_order_counts() -> None:
    table = draws.uniform(1, np.arange(3)[:, None], np.arange(4))
    assert table.shape == (3, 4)
    assert table[2, 1] == draws.uniform(1, 2, 1)
    assert table[1, 2] != table[2, 1]


@pytest.mark.parametrize(
    "drawn",
    [
        draws.uniform(0, MANY),
        draws.uniform(1, MANY, 5),
        draws.uniform(1, 5, MANY * 2**40),
        draws.uniform(1, MANY // 500, MANY % 500),
    ],
)
def test_draws_are_evenly_spread(drawn) -> None:
    counts = np.bincount((drawn * 100).astype(int), minlength=100)
    chi_square = np.sum((counts - 2_000) ** 2 / 2_000)
    assert 45 < chi_square < 175  # 99 degrees of freedom: beyond by chance once in 100 000


@pytest.mark.parametrize(
    "other",
    [
        draws.uniform(1, MANY + 1),
        draws.uniform(2, MANY),
        draws.uniform(1, MANY, 0),
        draws.uniform(1, 0, MANY),
        draws.uniform(1, MANY * 2),
    ],
)
def test_draws_of_other_names_are_unrelated(other) -> None:
    assert abs(np.corrcoef(draws.uniform(1, MANY), other)[0, 1]) < 4.5 / np.sqrt(len(MANY))


def test_normal_draws_have_the_moments_of_a_normal() -> None:
    drawn = draws.normal(3, MANY)
    assert drawn.mean() == pytest.approx(0, abs=0.01)
    assert drawn.std() == pytest.approx(1, abs=0.01)
    assert np.mean(drawn**3) == pytest.approx(0, abs=0.03)
    assert np.mean(drawn**4) == pytest.approx(3, abs=0.1)
