from __future__ import annotations

import numpy as np
import pytest

from feedgen.ranking.cohorts import NEW, OTHER, SLEEPY, Cohorts, assign


def test_every_registry_knows_new_sleepy_and_other():
    names = Cohorts().names
    assert (names[NEW], names[SLEEPY], names[OTHER]) == ("new", "sleepy", "other")


def test_a_class_keeps_its_number():
    cohorts = Cohorts(["sign", "watch"])
    assert cohorts.number("sign") == 3
    assert cohorts.number("watch") == cohorts.number("watch") == 4
    assert cohorts.names[4] == "class watch"


def test_a_class_may_have_the_name_of_another_cohort():
    cohorts = Cohorts(["new"])
    assert cohorts.number("new") != NEW


def test_classes_beyond_the_limit_share_one_cohort():
    cohorts = Cohorts(limit=5)
    numbers = [cohorts.number(f"class{i}") for i in range(10)]
    assert numbers == [3, 4] + [OTHER] * 8
    assert len(cohorts.names) == 5


@pytest.mark.parametrize("limit", [2, 128])
def test_a_limit_that_is_no_int8_or_too_small_is_refused(limit):
    with pytest.raises(ValueError, match="int8"):
        Cohorts(limit=limit)


def test_new_comes_before_sleepy_and_sleepy_before_the_class():
    cohort = assign([3, 3, 50, 50], [0.0, 1e9, 1e9, 10.0], [5, 5, 5, 5])
    assert cohort.tolist() == [NEW, NEW, SLEEPY, 5]
    assert cohort.dtype == np.int8


def test_a_device_never_heard_of_is_new():
    assert assign([0], [np.inf], [4]).tolist() == [NEW]


def test_names_are_taken_over_by_number():
    old, cohorts = Cohorts(["b", "a"]), Cohorts(["a"])
    cohorts.restore(old.names)
    assert cohorts.number("a") == old.number("a")
    with pytest.raises(ValueError, match="at most 4"):
        Cohorts(limit=4).restore(old.names)
