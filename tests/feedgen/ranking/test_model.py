from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.ranking.counters import CounterSettings
from feedgen.ranking.event_ranker import impressions
from feedgen.ranking.features import GROUPS, Encoded, Group, Impressions, encode
from feedgen.ranking.model import MAX_FAMILIES, OTHERS, Joint, ModelSettings, logit, sigmoid
from tests.feedgen.model_cases import (
    a_model,
    assert_close,
    assert_same,
    column,
    log,
    some,
    trained,
)

BITS = 18


def stream(seed, n, **options):
    """Encoded impressions, labels that have to do with them, and times."""
    rng = np.random.default_rng(seed)
    encoded = encode(some(rng, n, **options), BITS)
    labels = (rng.random(n) < np.where(encoded.places[:, 1] % 2, 0.6, 0.2)).astype(float)
    return encoded, labels, 1.7e9 + rng.exponential(3600, n).cumsum()


def learn_in(model, edges, encoded, labels, weights, times):
    for a, b in pairwise(edges):
        part = slice(a, b)
        model.learn(encoded.rows(part), labels[part], weights[part], times[part])
    return model


# ---- Batches


@pytest.mark.parametrize("size", [1, 7, 50, 1000])
def test_batches_of_any_size_learn_what_one_by_one_learns(size):
    encoded, labels, times = stream(0, 3000, num=2)
    rest = encode(some(np.random.default_rng(9), 100, num=2), BITS)
    once = a_model()
    once.learn(encoded, labels, now=times)
    other = learn_in(
        a_model(), [*range(0, 3000, size), 3000], encoded, labels, np.ones(3000), times
    )
    assert_close(once, other)
    np.testing.assert_allclose(once.predict(rest), other.predict(rest), 1e-9)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_batches_of_any_split_learn_what_one_by_one_learns(data):
    n = data.draw(st.integers(1, 150))
    seed = data.draw(st.integers(0, 999))
    encoded, labels, times = stream(seed, n, num=data.draw(st.integers(0, 2)))
    weights = np.random.default_rng(seed).choice([1.0, 0.25], n)
    cuts = data.draw(st.lists(st.integers(0, n), max_size=6))
    one = learn_in(a_model(), range(n + 1), encoded, labels, weights, times)
    other = learn_in(a_model(), sorted({0, n, *cuts}), encoded, labels, weights, times)
    assert_close(one, other)
    np.testing.assert_allclose(one.predict(encoded), other.predict(encoded), 1e-9)


def test_corrections_in_batches_are_those_of_one_by_one():
    encoded, labels, times = stream(3, 400)
    twice = np.repeat(np.arange(400), 2)
    weights = np.tile([1.0, -0.5], 400)
    one = learn_in(a_model(), range(801), encoded.rows(twice), labels[twice], weights, times[twice])
    other = learn_in(a_model(), [0, 800], encoded.rows(twice), labels[twice], weights, times[twice])
    np.testing.assert_allclose(one.table.mean, other.table.mean, atol=1e-9)
    np.testing.assert_allclose(one.predict(encoded), other.predict(encoded), 1e-9)


def test_within_a_step_the_order_of_impressions_changes_no_weight():
    encoded, labels, _ = stream(5, 16)
    # Rates are what was seen before, so that the order counts for them, and through them.
    options = {"counters": CounterSettings(prior=1e12), "steps": (16, 16)}
    one, other = a_model(**options), a_model(**options)
    one.learn(encoded, labels)
    backwards = np.arange(16)[::-1]
    other.learn(encoded.rows(backwards), labels[backwards])
    np.testing.assert_allclose(one.table.mean, other.table.mean, atol=1e-9)


# ---- Predicting


def test_predicting_changes_nothing():
    model, known = trained()
    before = copy.deepcopy(model.state())
    unknown = Impressions(
        (column("device", ["new"]),),
        (column("item", ["new"]),),
        (column("device.never", ["seen"]),),
        (column("item.never", ["seen"]),),
        num=np.array([[1.0, np.nan]]),
    )
    for each in (known, unknown):
        model.predict(encode(each, BITS))
        model.item_term(encode(each, BITS))
    assert_same(model.state(), before)


def test_a_model_that_has_learned_nothing_predicts_the_expected_rate():
    model = a_model(rate=0.03)
    p = model.predict(encode(some(np.random.default_rng(0), 5), BITS))
    np.testing.assert_allclose(p, 0.03)


def test_what_was_never_seen_is_predicted_as_an_average_impression():
    rng = np.random.default_rng(0)
    encoded = encode(some(rng, 5000), BITS)
    model = a_model()
    model.learn(encoded, (rng.random(5000) < 0.3).astype(float))
    unknown = Impressions(
        (column("device", ["new"]),), (column("item", ["new"]),), (), (column("item.x", ["new"]),)
    )
    assert model.predict(encode(unknown, BITS))[0] == pytest.approx(0.3, abs=0.02)


def test_what_is_known_of_a_field_carries_over_to_a_new_item():
    rng = np.random.default_rng(1)
    n = 4000
    channel = rng.integers(0, 2, n)
    labels = (rng.random(n) < np.where(channel, 0.8, 0.1)).astype(float)

    def shown(items, channels):
        return encode(
            Impressions(
                (column("device", ["d"] * len(items)),),
                (column("item", items),),
                item_fields=(column("item.channel", channels),),
            ),
            BITS,
        )

    model = a_model()
    model.learn(shown(list(map(str, rng.integers(0, 200, n))), [str(c) for c in channel]), labels)
    good, bad = model.predict(shown(["new", "new"], ["1", "0"]))
    assert good > 0.6
    assert bad < 0.25


def test_an_absent_field_is_as_if_there_were_no_such_field():
    model, _ = trained()
    device, item = column("device", ["a"]), column("item", ["u"])
    without = Impressions((device,), (item,), item_fields=(column("item.channel", ["c"]),))
    absent = Impressions(
        (device,),
        (item,),
        (column("device.class", [None]), column("device.region", [None])),
        (column("item.channel", ["c"]), column("item.tag", [None])),
        (column("context.hour", [None]),),
    )
    assert model.logits(encode(without, BITS)) == pytest.approx(model.logits(encode(absent, BITS)))


def test_absent_fields_learn_nothing():
    model = a_model()
    encoded = encode(
        Impressions(
            (column("device", ["a", "b"]),),
            (column("item", ["u", "v"]),),
            item_fields=(column("item.tag", [None, "t"]),),
        ),
        BITS,
    )
    model.learn(encoded, np.array([1.0, 0.0]))
    assert model.table.mean[0] == 0
    assert model.counters.shown[0] == 0


def test_the_term_of_an_item_is_its_weight_and_its_rate():
    model, known = trained()
    encoded = encode(known, BITS).part(0, 40)
    at = encoded.places[:, 1]
    rates = model.counters.rates(at, model.rate.now)
    expected = (
        model.trust[Group.ITEM] * model.table.mean[at]
        + model.slopes[model.families["item"]] * rates
    )
    np.testing.assert_allclose(model.item_term(encoded), expected)
    assert np.ptp(expected) > 0.1


# ---- Learning


@pytest.mark.parametrize("trust", [1.0, 2.0, 0.5])
def test_one_impression_moves_a_weight_by_one_newton_step(trust):
    model = a_model(rate=0.2, precision=(50.0,) * GROUPS)
    model.joint.start[:GROUPS] = trust
    encoded = encode(Impressions((column("device", ["a"]),), (column("item", ["u"]),)), BITS)
    model.learn(encoded, np.array([1.0]))
    curvature = 0.2 * 0.8 * trust**2
    place = encoded.places[0, 0]
    assert model.table.mean[place] == pytest.approx(0.8 * trust / (50 + curvature))
    model.table.settle()
    assert model.table.precision[place] == pytest.approx(curvature)


def test_taking_back_soon_and_learning_the_other_label_is_nearly_as_having_learned_that_one():
    events, labels, _ = log(3000, 1)
    encoded = encode(impressions(events), BITS)
    late = (labels == 1) & (np.random.default_rng(0).random(3000) < 0.1)
    told = np.where(late, 0.0, labels)
    right, uncorrected, corrected = a_model(), a_model(), a_model()
    right.learn(encoded, labels)
    uncorrected.learn(encoded, told)
    for start in range(0, 3000, 20):
        part = slice(start, start + 20)
        corrected.learn(encoded.rows(part), told[part])
        again = start + np.flatnonzero(late[part])
        corrected.learn(encoded.rows(again), told[again], -np.ones(again.size))
        corrected.learn(encoded.rows(again), labels[again])
    off, uncorrected_off = (
        model.logits(encoded) - right.logits(encoded) for model in (corrected, uncorrected)
    )
    assert np.abs(off).mean() < 0.5 * np.abs(uncorrected_off).mean()
    assert abs(off.mean()) < 0.2 * abs(uncorrected_off.mean())


def test_taking_back_more_than_was_learned_leaves_a_model_that_predicts():
    encoded, labels, _ = stream(8, 200)
    model = a_model()
    for _ in range(20):
        model.learn(encoded, labels, -np.ones(200))
    p = model.predict(encoded)
    assert ((p > 0) & (p < 1)).all()
    model.learn(encoded, labels)
    assert np.isfinite(model.table.mean).all()


def test_a_weight_of_nothing_teaches_nothing():
    model, known = trained()
    encoded = encode(known, BITS).part(0, 50)
    before = model.logits(encoded)
    model.learn(encoded, np.ones(50), np.zeros(50))
    # The hedge and the rate of all fade a little; the logits less those stay.
    np.testing.assert_allclose(model.logits(encoded), before, atol=1e-3)


@pytest.mark.parametrize("weight", [1.0, 1e6, 1e12])
def test_the_same_impression_a_thousand_times_overflows_nothing(weight):
    one, _, _ = stream(2, 1)
    model = a_model()
    for label in (1.0, 0.0):
        model.learn(one.rows(np.zeros(1000, np.intp)), np.full(1000, label), np.full(1000, weight))
        p = model.predict(one)
        assert 0 < p[0] < 1
    assert np.isfinite(model.table.mean).all()
    assert np.isfinite(model.slopes).all()


def test_a_group_that_fits_noise_loses_its_trust_and_one_whose_prior_is_too_tight_gains_some():
    rng = np.random.default_rng(0)
    n = 20_000
    device, kind, item, hour = rng.integers(0, 20, (4, n))
    rates = rng.beta(1, 3, (20, 20))  # of item and class; nothing depends on device and hour
    shown = Impressions(
        (column("device", map(str, device)),),
        (column("item", map(str, item)),),
        (column("device.class", map(str, kind)),),
        context=(column("context.hour", map(str, hour)),),
    )
    model = a_model()
    model.learn(encode(shown, BITS), (rng.random(n) < rates[kind, item]).astype(float))
    assert model.trust[Group.REACH] > 1.5
    assert model.trust[Group.HABIT] < 0.95
    assert ((model.trust >= 0) & (model.trust <= 2)).all()


def test_forgetting_keeps_precision_bounded():
    encoded, labels, _ = stream(4, 4096)
    rarely, often = a_model(forgetting=0.0), a_model(forgetting=1e-4)
    for model in (rarely, often):
        for _ in range(10):
            model.learn(encoded, labels)
    assert often.table.precision.max() < 0.5 * rarely.table.precision.max()


# ---- Numbers


def numbers(values):
    n = len(values)
    return encode(
        Impressions(
            (column("device", ["d"] * n),),
            (column("item", ["i"] * n),),
            num=np.array(values, float).reshape(n, -1),
        ),
        BITS,
    )


@pytest.mark.parametrize("shift", [0.0, 1e9])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_a_number_tells_whatever_its_scale(shift, scale):
    rng = np.random.default_rng(0)
    z = rng.normal(size=5000)
    labels = (rng.random(5000) < sigmoid(1.5 * z)).astype(float)
    model = a_model()
    model.learn(numbers(shift + scale * z), labels)
    low, high = model.predict(numbers([shift - 2 * scale, shift + 2 * scale]))
    assert low < 0.2
    assert high > 0.8


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324])
def test_an_odd_number_among_others_stops_nothing(odd):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(500, 2))
    z[::50, 0] = odd
    model = a_model()
    for _ in range(5):
        model.learn(numbers(z), (rng.random(500) < sigmoid(z[:, 1])).astype(float))
    low, high = model.predict(numbers([[odd, -2.0], [odd, 2.0]]))
    assert 0 < low < high < 1


def test_a_number_that_is_always_the_same_tells_nothing():
    rng = np.random.default_rng(0)
    model = a_model()
    for _ in range(5):
        model.learn(numbers([0.1] * 500), (rng.random(500) < 0.3).astype(float))
    same, none = model.predict(numbers([[0.1], [np.nan]]))
    assert same == pytest.approx(none, rel=1e-6)


def test_lists_of_numbers_may_differ_in_length_from_batch_to_batch():
    model = a_model()
    for width in (0, 3, 1, 5):
        model.learn(numbers(np.ones((20, width))), np.tile([0.0, 1.0], 10))
        for asked in (0, 2, 7):
            assert np.isfinite(model.predict(numbers(np.ones((3, asked))))).all()


# ---- Bounds


def test_fields_with_ever_new_names_do_not_fill_the_memory():
    model = a_model(bits=10)
    for at in range(MAX_FAMILIES + 50):
        shown = Impressions(
            (column("device", ["d"]),), (column("item", ["i"]),), (column(f"device.{at}", ["x"]),)
        )
        model.learn(encode(shown, 10), np.array([float(at % 2)]))
    assert len(model.families) == MAX_FAMILIES
    assert len(model.slopes) == MAX_FAMILIES
    assert np.isfinite(model.predict(encode(shown, 10))[0])
    assert model.slopes[model.families[OTHERS]] != 0


# ---- State


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 400), st.integers(0, 999))
def test_a_restored_model_goes_on_as_if_there_had_been_no_stop(stop, seed):
    encoded, labels, times = stream(seed, 800, num=1)
    one = learn_in(a_model(), [0, stop], encoded, labels, np.ones(800), times)
    other, _ = trained(seed + 1, 50)  # whatever it knew is forgotten
    other.restore(one.state())
    assert_same(one.state(), other.state())
    for model in (one, other):
        learn_in(model, [stop, 500, 800], encoded, labels, np.ones(800), times)
    assert_same(one.state(), other.state())
    assert (one.predict(encoded) == other.predict(encoded)).all()


def test_a_restored_model_goes_on_through_forgetting():
    encoded, labels, _ = stream(0, 3000)
    one, other = a_model(), a_model()
    one.learn(encoded, labels)
    other.restore(one.state())
    for model in (one, other):
        for _ in range(3):
            model.learn(encoded, labels)
    assert_same(one.state(), other.state())


def test_a_state_stays_as_it_was_when_learning_goes_on():
    model, known = trained(n=1000)
    state = model.state()
    before = copy.deepcopy(state)
    model.learn(encode(known, BITS), np.ones(1000))
    assert_same(state, before)


def test_a_state_holds_what_is_in_use_and_no_more():
    model = a_model()
    encoded, labels, _ = stream(0, 30)
    model.learn(encoded, labels)
    size = sum(each.nbytes for each in model.state()["table"].values())
    assert size < 50 * len(np.unique(encoded.places))


def test_a_state_of_another_size_is_refused_and_changes_nothing():
    model, _ = trained()
    before = model.state()
    with pytest.raises(ValueError, match=r"2\^10 weights and 10 groups, this model 2\^18 and 10"):
        model.restore(trained(n=100, bits=10)[0].state())
    assert_same(model.state(), before)


# ---- Parts


def test_a_joint_posterior_is_the_newton_step_of_all_its_coordinates_together():
    joint = Joint()
    joint.grow([1.0], 2.0)
    joint.grow([3.0], 4.0)
    design, curvature = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([0.2, 0.1])
    joint.add(design, np.array([1.0, -1.0]), curvature)
    steepness = design.T @ np.diag(curvature) @ design + np.diag([2.0, 4.0])
    expected = [1, 3] + np.linalg.inv(steepness) @ design.T @ [1, -1]
    np.testing.assert_allclose(joint.mean, expected)


def test_a_joint_posterior_that_grows_within_a_step_keeps_what_it_knows():
    joint = Joint()
    joint.grow([1.0], 2.0)
    joint.add(np.ones((1, 1)), np.array([4.0]), np.array([2.0]))
    joint.grow([7.0], 2.0)
    assert joint.mean.tolist() == [2.0, 7.0]
    joint.settle()
    assert joint.precision.tolist() == [[2.0, 0.0], [0.0, 0.0]]


def test_probabilities_and_logits_are_inverses_without_overflow():
    for p in (0.001, 0.5, 0.99):
        assert sigmoid(np.array([logit(p)]))[0] == pytest.approx(p)
    assert 0 < sigmoid(np.array([-1e9]))[0] < sigmoid(np.array([1e9]))[0] < 1


def test_no_impressions_teach_nothing():
    model, _ = trained(n=100)
    before = model.state()
    encoded: Encoded = encode(some(np.random.default_rng(0), 0), BITS)
    model.learn(encoded, np.empty(0))
    assert model.predict(encoded).shape == (0,)
    assert_same(model.state(), before)


def test_the_defaults_are_one_set_for_every_stream():
    assert len(ModelSettings().precision) == GROUPS
