"""A small world with a known truth, as a log."""

from __future__ import annotations

import numpy as np
import pytest

DAY = 86_400.0


@pytest.fixture
def world():
    """Return events with labels: what is opened depends on the item, `y ~ Bernoulli(rate[item])`."""

    def make(count=2000, *, devices=40, items=25, seed=0, rates=None, days=4.0, start=0.0):
        rng = np.random.default_rng(seed)
        rates = np.linspace(0.05, 0.95, items) if rates is None else np.full(items, rates)
        item, device = rng.integers(items, size=count), rng.integers(devices, size=count)
        y = rng.random(count) < rates[item]
        t = start + np.sort(rng.random(count)) * days * DAY
        return [
            (
                {
                    "t": float(t[i]),
                    "device": f"d{device[i]}",
                    "item": f"i{item[i]}",
                    "list": f"d{device[i]}/{int(t[i] // (DAY / 8))}",
                    "device_fields": {"class": "tram" if device[i] % 2 else "kiosk"},
                    "item_fields": {},
                    "context": {},
                },
                int(y[i]),
            )
            for i in range(count)
        ]

    return make
