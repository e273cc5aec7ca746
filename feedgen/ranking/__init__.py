"""What an item is worth to a device, as part of its key in the device's window.

`ranking.Ranking` is the one object that others hold; to the engine it is a `scoring.Scoring`. In the
order in which one would read it:

- Keys: `value` turns a value into ticks of publication time, `popularity` is the baseline that is
  always there, `explore` draws where the model is uncertain, `diversity` orders a window for the eye.
- What is learned: `features` lists what an impression is made of, as `tokens`; `counters` are smoothed
  rates of features, `running` those of the whole stream; `model` is logistic regression on both, of
  `posterior` weights, with a `hedge`. `heads` are three models and their joint worth. `event_ranker` is
  one of them for the events of a log.
- What serves: `tables` are a model frozen, `rows` who is in which row, `known` what is remembered of
  items, `scorer` puts one item before many devices, `serving` answers the engine, `explain` people.
- Feedback: `labels` turns it into outcomes (`impressions`, `labelled`, `chains`, `limits` are its parts),
  `evidence` keeps what was true when an item was shown, `learning` joins both with the models.
- Whether it is right: `monitor` (with `drift`, `shift`, `cohorts`), the `ladder` of `rungs` judged in the
  `shadow`, `lift` over devices on newest first, `balance` of exposure over publishers.
- Among several servers: `leading` learns for all, of a `sampling` of what nodes tell it in
  `feedback_batches`; `following` serves what another one learned, given away as `blobs`; `comparing` is
  what the balance costs in windows as they stand.
- What is written down: `decisions` are records of the decision log, `joined` what came of them.
- `settings` are all of this in one place.

No clocks, no I/O, no randomness but seeds passed in.
"""
