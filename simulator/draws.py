"""Random numbers by name: a draw depends on its seed and on what it is for, not on what was drawn before.

Counter-based generation (Salmon et al., SC 2011) with the finaliser of SplitMix64 (Steele et al., OOPSLA 2014). Two
policies that show the same item to the same person meet the same chance, in whatever order they come to it. Their
difference is then due to what they decided, which is what makes comparisons over few seeds sharp (common random
numbers). numpy's `Philox` is counter-based too, but has no call that takes an array of counters.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

_ODD = np.uint64(0x9E3779B97F4A7C15)
_SCALE = 2.0**-53


def mixed(seed: int, *counters: ArrayLike) -> NDArray[np.uint64]:
    """Returns 64 well mixed bits for each combination of integer counters, which broadcast; their order counts."""
    bits = np.asarray(np.uint64(seed & 0xFFFFFFFFFFFFFFFF))
    # Wrapping is the arithmetic that is meant; numpy warns of it for scalars alone.
    with np.errstate(over="ignore"):
        bits = _finalised(bits + _ODD)
        for counter in counters:
            bits = _finalised(bits ^ (np.asarray(counter).astype(np.uint64) * _ODD + _ODD))
    return bits


def uniform(seed: int, *counters: ArrayLike) -> Floats:
    """Returns a number in (0, 1), never an end of it, for each combination of counters."""
    return np.asarray(
        ((mixed(seed, *counters) >> np.uint64(12)).astype(np.float64) + 0.5) * (2 * _SCALE)
    )


def normal(seed: int, *counters: ArrayLike) -> Floats:
    """Returns a standard normal number for each combination of counters (Box and Muller, 1958)."""
    radius = np.sqrt(-2.0 * np.log(uniform(seed, *counters, 0)))
    return np.asarray(radius * np.cos(2.0 * np.pi * uniform(seed, *counters, 1)))


def _finalised(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(bits ^ (bits >> np.uint64(31)))
