"""What another policy would have earned, from what the policy in service logged.

Per logged decision i let r be the reward, p the probability with which the logging policy did what it
did, π that with which the target policy would have done the same, and w = π / p. Then

    IPS   = mean(w r)                                   Horvitz and Thompson, JASA 1952
    SNIPS = sum(w r) / sum(w)                           Swaminathan and Joachims, NIPS 2015
    DR    = mean(q_target + w (r - q_logged))           Dudík, Langford and Li, ICML 2011

where q_logged is a model's guess of r for what was done, and q_target its expectation under the target
policy. IPS is unbiased wherever p is right and never 0 where π is not; SNIPS trades a little bias for
less variance; DR is unbiased if p or q is right, and the more precise the better q is. Few events with
large weights carry an estimate: ESS = sum(w)² / sum(w²) tells as how many unweighted ones they count
(Kish 1965), and `too_few` says when nothing follows from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from feedgen.evaluate.bootstrap import RESAMPLES, Draws, Interval, interval
from feedgen.evaluate.metrics import Places, ratio

if TYPE_CHECKING:
    from feedgen.evaluate.bootstrap import Codes
    from feedgen.evaluate.ranker import Floats

MIN_ESS = 100.0
"""Fewer effective events tell nothing: their interval is not to be trusted either."""
MIN_CLUSTERS = 10
"""Likewise fewer devices, which is what intervals are made from."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a target policy is worth per decision.

    Attributes:
        ips: by inverse propensities.
        snips: the same, self-normalised.
        dr: doubly robust; None without a model.
        ess: effective sample size, events.
        events: of the log.
        too_few: why the log cannot tell, as a sentence's end; None if it can.
    """

    ips: Interval
    snips: Interval
    dr: Interval | None
    ess: float
    events: int
    too_few: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """What a model says of logged decisions.

    Attributes:
        logged: [events], the reward expected of what was done.
        target: [events], the reward expected of what the target policy does there.
    """

    logged: Floats
    target: Floats


def estimate(
    reward: Floats,
    propensity: Floats,
    target_probability: Floats,
    model: Model | None = None,
    *,
    clusters: Codes | None = None,
    decisive: float | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Estimate the value of a target policy from logged decisions.

    Args:
        reward: [events].
        propensity: [events] in (0, 1], probability of what was done under the logging policy.
        target_probability: [events], of the same under the target policy; at least 0. May exceed 1
            where it stands for a density, as `top_half` gives it.
        model: for the doubly robust estimate.
        clusters: [events], numbers of the devices: events of one are resampled together. None:
            every event is its own.
        decisive: width of an interval beyond which it does not decide anything; None: the range of
            rewards in the log.
        resamples: of the intervals; 0 none.
        seed: of the resamples.

    Raises:
        ValueError: lengths differ, or propensities are not in (0, 1].
    """
    _check(reward, propensity, target_probability)
    events = len(reward)
    weights = target_probability / propensity
    own = np.arange(events, dtype=np.int32)
    draws = Draws.of(own if clusters is None else clusters, resamples, seed)
    once = Draws.once(events)

    def mean(part: Floats, whole: Floats) -> Interval:
        value, drawn = (ratio(by.sums(part), by.sums(whole)) for by in (once, draws))
        return interval(float(value[0]), drawn)

    each = np.ones(events)
    dr = None if model is None else model.target + weights * (reward - model.logged)
    square = float(weights @ weights)
    found = Estimate(
        ips=mean(weights * reward, each),
        snips=mean(weights * reward, weights),
        dr=None if dr is None else mean(dr, each),
        ess=float(weights.sum()) ** 2 / square if square else 0.0,
        events=events,
        too_few=None,
    )
    width = float(np.ptp(reward)) if decisive is None and events else decisive or 0.0
    return _judged(found, draws, width)


def top_half(scores: Floats, lists: Codes, propensity: Floats) -> Floats:
    """Return target probabilities [events]: in each list only the better half is shown.

    A log of impressions has what was shown, each with the probability that it was; what was not
    shown is not in it. So an event stands for 1 / p candidates of its list. Let s be the share of it
    that the target shows: 1 where less than half of the list's candidates score higher, 0 in the
    lower half, between for the one in the middle; ties share alike. Then sum(s r / p) estimates the
    target's openings among all candidates and sum(s / p) how many items it shows; their ratio is its
    openings *per item shown*, as the mean of r is those of the log.

    So this gives s over the mean of s / p. Weights are then 1 in the mean and `estimate` speaks of
    items shown. As the number of candidates is itself estimated, IPS equals SNIPS; and a model
    cannot say more of what is not in the log, so DR does too, but for the ends of intervals.
    They differ where a log holds one action of several per decision, for which `estimate` is made.

    Args:
        scores: [events], the target's.
        lists: [events], numbers from 0.
        propensity: [events], in (0, 1].
    """
    places = Places(scores, lists)
    mass = 1 / propensity[places.order]
    total = places.totals(mass)
    above = np.cumsum(mass) - mass - (np.cumsum(total) - total)[places.of]
    shown = np.clip(total[places.of] / 2 - above, 0.0, mass)
    share = np.empty(len(scores))
    share[places.order] = places.mean_of_ties(shown) / places.mean_of_ties(mass)
    return share / np.mean(share / propensity) if len(share) else share


def model_of(p: Floats, propensity: Floats, target_probability: Floats) -> Model:
    """Return predictions as the model of a target that shows fewer of the same items.

    What it expects under the target is taken over the log, weighted: the difference estimator of
    survey sampling (Särndal, Swensson and Wretman 1992, section 6.3).

    Args:
        p: [events], predicted before the label was known.
        propensity: [events].
        target_probability: [events].
    """
    return Model(logged=p, target=p * target_probability / propensity)


def _judged(found: Estimate, draws: Draws, decisive: float) -> Estimate:
    """Say of an estimate when the log cannot tell."""
    clusters = draws.times.shape[1]
    best = found.snips if found.dr is None else found.dr
    if found.ess < MIN_ESS:
        why = f"they count as {found.ess:.0f}, and it takes {MIN_ESS:.0f}"
    elif clusters < MIN_CLUSTERS:
        why = f"they are of {clusters} devices, and it takes {MIN_CLUSTERS}"
    elif best.width > decisive:
        why = f"the interval is {best.width:.3g} wide, and {decisive:.3g} is all there is to decide"
    else:
        return found
    return Estimate(found.ips, found.snips, found.dr, found.ess, found.events, too_few=why)


def _check(reward: Floats, propensity: Floats, target: Floats) -> None:
    if not reward.shape == propensity.shape == target.shape:
        raise ValueError(
            f"reward, propensity and target_probability must be as long as each other, are "
            f"{reward.shape}, {propensity.shape} and {target.shape}"
        )
    if not np.all((propensity > 0) & (propensity <= 1)):
        raise ValueError("propensities must be above 0 and at most 1")
    if not np.all(target >= 0):
        raise ValueError("target probabilities must be at least 0")
