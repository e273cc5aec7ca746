"""Logs of a small simulated world, and states of models compared."""

from __future__ import annotations

import numpy as np

from feedgen.evaluate.metrics import measure
from feedgen.ranking.features import GROUPS, Column, Impressions, encode
from feedgen.ranking.model import LogisticModel, ModelSettings
from feedgen.ranking.tables import Tables
from feedgen.ranking.tokens import token


def log(n, seed=0, *, rate=-1.0, taste=1.0, flip=None, step=40.0, devices=300, items=300):
    """Events of devices of four classes before items of ten channels, their labels, and the truth.

    Args:
        n: events.
        seed: of the world and of what happens in it.
        rate: logit of an average opening.
        taste: how much classes and devices differ in what they like; 0 is a world without signal.
        flip: event from which on every taste is the opposite.
        step: seconds between events on average.
        devices: how many there are.
        items: how many there are.
    """
    rng = np.random.default_rng(seed)
    kind, channel = rng.integers(0, 4, devices), rng.integers(0, 10, items)
    likes, of_device, of_item = (
        taste * rng.normal(0, scale, shape)
        for scale, shape in ((1.2, (4, 10)), (0.7, devices), (0.6, items))
    )
    who, what = rng.integers(0, devices, n), rng.integers(0, items, n)
    t = 1.7e9 + rng.exponential(step, n).cumsum()
    z = likes[kind[who], channel[what]] + of_device[who] + of_item[what]
    if flip is not None:
        z[flip:] *= -1
    truth = 1 / (1 + np.exp(-rate - z))
    labels = (rng.random(n) < truth).astype(float)
    events = [
        {
            "t": at,
            "device": f"d{d}",
            "item": f"i{i}",
            "list": f"d{d}/{int(at // 86_400)}",
            "device_fields": {"class": str(kind[d])},
            "item_fields": {"channel": str(channel[i])},
            "context": {"hour": str(int(at // 3600) % 24)},
        }
        for at, d, i in zip(t.tolist(), who.tolist(), what.tolist(), strict=True)
    ]
    return events, labels, truth


def progressively(ranker, events, labels, batch=50):
    """Predict each batch, then learn it; returns the predictions."""
    predicted = []
    for start in range(0, len(events), batch):
        part = slice(start, start + batch)
        predicted.append(ranker.predict(events[part]))
        ranker.learn(events[part], labels[part])
    return np.concatenate(predicted)


def measured(labels, predicted):
    """All metrics of the evaluation, over one list."""
    return measure(labels.astype(np.int8), predicted, np.zeros(len(labels), np.int64))


def column(name, values):
    """A dense column of values, None for none."""
    return Column(name, np.array([0 if v is None else token(name, v) for v in values], np.uint64))


def some(rng, n, *, fields=True, num=0):
    """Dense impressions of few devices and items, some fields absent."""

    def pick(name, values):
        return column(name, rng.choice(np.array(values, object), n))

    return Impressions(
        (pick("device", list("abcdefgh")),),
        (pick("item", list("uvwxyz")),),
        (pick("device.class", ["1", "2", None]), pick("device.region", ["n", "s"]))
        if fields
        else (),
        (
            pick("item.channel", ["c", "d"]),
            pick("item.tag", ["t", "u", None]),
            pick("item.tag", ["v", "w", None]),
        )
        if fields
        else (),
        (pick("context.hour", ["7", "8"]),) if fields else (),
        rng.normal(5, 3, (n, num)) if num else None,
    )


def a_model(**options):
    return LogisticModel(ModelSettings(**options))


def trained(seed=0, n=3000, **options):
    """A model that learned some thousand impressions, and those impressions."""
    rng = np.random.default_rng(seed)
    impressions = some(rng, n)
    model = a_model(**options)
    encoded = encode(impressions, model.settings.bits)
    liked = (encoded.places[:, 0] % 3 == 0) ^ (encoded.places[:, 1] % 2 == 0)
    labels = (rng.random(n) < np.where(liked, 0.7, 0.1)).astype(float)
    model.learn(encoded, labels, now=1.7e9 + np.arange(n) * 10.0)
    return model, impressions


def assert_same(one, other):
    """Two states are the same to the bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert_same(value, other[name])
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


def assert_close(one, other, tolerance=1e-9):
    """Two models know the same, whatever the order in which their families came."""
    both = sorted(one.families.keys() & other.families.keys())
    at = [
        np.array([*range(GROUPS), *(GROUPS + model.families[each] for each in both)])
        for model in (one, other)
    ]
    for name in ("mean", "start", "precision", "gradient", "curvature"):
        tables = (getattr(model.table, name) for model in (one, other))
        np.testing.assert_allclose(*tables, tolerance, tolerance, err_msg=name)
        joints = [getattr(model.joint, name) for model in (one, other)]
        known = [
            joint[np.ix_(each, each)] if joint.ndim == 2 else joint[each]
            for joint, each in zip(joints, at, strict=True)
        ]
        np.testing.assert_allclose(*known, tolerance, tolerance, err_msg=name)
    # Events with different fields have crosses between them, absent in all, only in a batch.
    for model, known in ((one, other), (other, one)):
        alone = [
            GROUPS + model.families[name] for name in model.families.keys() - known.families.keys()
        ]
        assert not (model.joint.precision + model.joint.curvature)[alone].any()
    for name in ("shown", "opened"):
        np.testing.assert_allclose(
            getattr(one.counters, name), getattr(other.counters, name), tolerance, tolerance
        )
    np.testing.assert_allclose(one.hedge.lead, other.hedge.lead, tolerance, tolerance)
    np.testing.assert_allclose(one.rate.now, other.rate.now, tolerance)
    assert one.learned == other.learned


def untrained(bits, prior, rate):
    """Tables that know nothing: every probability is `rate`."""
    nothing = np.zeros(1 << bits, np.float32)
    ones = np.ones(GROUPS, np.float32)
    return Tables(bits, nothing, nothing, nothing, ones, np.array(prior, np.float32), {}, rate, 1.0)
