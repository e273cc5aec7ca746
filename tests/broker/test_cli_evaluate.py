"""`fleetfeed evaluate` as its user meets it: a process with arguments, output and an exit code."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from feedgen.ranking.decisions import Admissions, Outcomes
from feedgen.store.decision_log import DecisionLog

CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("FLEETFEED_")}


@pytest.fixture
def evaluate(tmp_path):
    """Run `fleetfeed evaluate` with arguments in a directory of its own."""

    def run(*args, stdin=b"", env=None):
        return subprocess.run(
            [sys.executable, "-m", "broker", "evaluate", *map(str, args)],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            env={**CLEAN, "COLUMNS": "100", **(env or {})},
            timeout=60,
            check=False,
        )

    return run


def log(count=1500, *, propensity=None):
    """Return a log in which some channels are opened far more than others, by some devices."""
    rng = np.random.default_rng(0)
    lines = []
    for n in range(count):
        device, item = int(rng.integers(30)), int(rng.integers(n // 30 + 1, n // 30 + 20))
        channel = item % 4
        rate = 0.85 if (device + channel) % 4 == 0 else 0.1
        lines.append(
            {
                "t": 1_700_000_000 + 300 * n,
                "device": f"d{device}",
                "item": f"i{item}",
                "list": f"d{device}/{n // 300}",
                "device_fields": {"class": "tram"},
                "item_fields": {"channel": f"news/{channel}"},
                "context": {"hour": str(n // 12 % 24)},
                "y": int(rng.random() < rate),
                **({} if propensity is None else {"propensity": propensity}),
            }
        )
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


@pytest.fixture
def events(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(log())
    return path


def assert_fails(done, code, *words):
    said = done.stderr.decode()
    assert (done.returncode, done.stdout) == (code, b""), said
    assert said.startswith("fleetfeed: ")
    assert said.count("\n") == 1
    for word in words:
        assert word in said


def test_the_learned_ranking_stands_beside_both_baselines_with_a_verdict(evaluate, events):
    done = evaluate(events)
    assert (done.returncode, done.stderr) == (0, b"")
    said = done.stdout.decode().splitlines()
    assert said[0].startswith("1 200 events of 30 devices in ")
    assert said[1].split() == ["learned", "popularity", "newest"]
    assert [line.split("  ")[0] for line in said[2:8]] == [
        *("AUC", "NE", "log-loss", "ECE", "NDCG@10", "list AUC"),
    ]
    assert all(line.count("[") == line.count("]") == 3 for line in said[2:8])
    assert said[8].startswith("learned is better than popularity and newest in AUC, NE")


def test_the_result_is_json_and_has_a_probability_for_each_line_and_a_page(
    evaluate, events, tmp_path
):
    options = "--json", "--predictions", "p.txt", "--plot", "plot.html", "--resamples", 20
    done = evaluate(events, *options)
    result = json.loads(done.stdout)
    assert result["events"] == 1200
    assert result["metrics"]["auc"]["learned"]["value"] > 0.75
    assert result["lead"]["auc"]["newest"]["low"] > 0
    p = [float(line) for line in (tmp_path / "p.txt").read_text().splitlines()]
    assert len(p) == 1500
    assert all(0 < each < 1 for each in p)
    assert (tmp_path / "plot.html").read_text().count("<svg") == 4
    assert json.loads(evaluate(events, *options).stdout) == result


def test_the_predictions_are_those_of_the_model_that_is_judged(evaluate, events, tmp_path):
    for model in ("popularity", "prior"):
        done = evaluate(events, "--model", model, "--predictions", model, "--resamples", 0)
        names = done.stdout.decode().splitlines()[1].split()
        assert names == list(dict.fromkeys([model, "popularity", "newest"]))
    assert (tmp_path / "popularity").read_text() != (tmp_path / "prior").read_text()


def test_a_gzipped_log_may_come_on_stdin(evaluate, events):
    piped = evaluate("-", "--json", "--resamples", 0, stdin=gzip.compress(events.read_bytes()))
    assert json.loads(piped.stdout) == json.loads(
        evaluate(events, "--json", "--resamples", 0).stdout
    )


def test_later_labels_and_longer_batches_cost_quality(evaluate, events):
    def entropy(*args):
        done = evaluate(events, "--json", "--resamples", 0, *args)
        return json.loads(done.stdout)["metrics"]["ne"]["learned"]["value"]

    at_once = entropy("--batch", 5)
    assert at_once < entropy("--batch", "day") - 0.01
    assert at_once < entropy("--batch", 5, "--delay", 2 * 86_400) - 0.01


def test_scoring_at_publication_is_shown_beside_re_keying(evaluate, events):
    done = evaluate(events, "--score-at-publish", "--rekey", 0)
    said = done.stdout.decode()
    heads = [" ".join(line.split()) for line in said.splitlines()]
    assert "learned at publish re-keyed" in heads
    assert "Scoring items once, at publication, costs" in said
    assert_fails(evaluate(events, "--score-at-publish", "--model", "newest"), 2, "learned model")


def test_off_policy_estimates_come_with_their_effective_sample_size(evaluate, tmp_path):
    (tmp_path / "log").write_bytes(log(propensity=0.5))
    done = evaluate("log", "--off-policy")
    rows = [line.split() for line in done.stdout.decode().splitlines()[-4:]]
    assert [row[0] for row in rows] == ["logged", "learned", "popularity", "newest"]
    assert [*rows[0][-2:]] == ["1", "200"]
    assert float(rows[1][1]) > float(rows[0][1])


def test_off_policy_says_when_there_are_too_few_events_to_tell(evaluate, tmp_path):
    (tmp_path / "log").write_bytes(log(150, propensity=0.5))
    done = evaluate("log", "--off-policy")
    said = done.stdout.decode()
    assert re.search(
        r"learned: too few events to tell: they count as 6\d, and it takes 100\.", said
    )
    found = json.loads(evaluate("log", "--off-policy", "--json").stdout)["off_policy"]
    assert "it takes 100" in found["policies"]["learned"]["too_few"]


def test_a_log_without_propensities_says_so_once(evaluate, events):
    last = evaluate(events, "--off-policy").stdout.decode().splitlines()[-1]
    assert last == "Off-policy: too few events to tell: none that is judged has a propensity."


def test_a_decision_log_says_how_good_the_ranking_in_service_was(evaluate, tmp_path):
    rng = np.random.default_rng(0)
    rows = 1500
    device = rng.integers(1, 40, rows).astype(np.uint64)
    p = rng.uniform(0.05, 0.95, rows).astype(np.float32)
    records = [
        Outcomes(
            t=1.7e9,
            model=3,
            device=device,
            n=np.arange(rows),
            shown=1.7e9 + 60.0 * np.arange(rows),
            rank=np.zeros(rows, np.int8),
            p=p,
            opened=rng.random(rows) < p,
            dismissed=np.zeros(rows, np.bool_),
            dwell=np.full(rows, -1, np.float32),
        )
    ]
    one, zero = np.ones(1, np.float32), np.zeros(1, np.int32)
    records += [
        Admissions(1.6e9, n, 3, 0, 0, device[n : n + 1], one, one, one / 2, zero, zero)
        for n in range(rows - 100)
    ]
    with DecisionLog(tmp_path / "decisions") as written:
        written.append(records)
    done = evaluate("--decisions", "decisions", "--json")
    found = json.loads(done.stdout)
    assert found["metrics"]["auc"]["served"]["value"] > 0.7
    assert found["metrics"]["ece"]["served"]["value"] < 0.05
    assert found["off_policy"]["without_propensity"] == 100
    worth = found["off_policy"]["policies"]
    assert worth["served"]["snips"]["low"] > worth["logged"]["snips"]["high"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (log(3) + b'{"t": 1}\n', "line 4: has no device"),
        (log(3).replace(b'"y": 0', b'"y": 2').replace(b'"y": 1', b'"y": 2'), "line 1: y is 2, must be 0 or 1"),
        (log(2) + log(1), "line 3: t is"),
        (b"", "has no events to judge by"),
        (gzip.compress(log(900))[:-900], "damaged"),
    ],
)  # fmt: skip
def test_a_wrong_log_is_refused_in_a_sentence_that_names_the_line(evaluate, tmp_path, data, said):
    (tmp_path / "log").write_bytes(data)
    assert_fails(evaluate("log"), 2, "log", said)


def test_wrong_arguments_are_refused_with_what_to_do(evaluate, events):
    assert_fails(evaluate(), 2, "name a file of EVENTS, or a decision log")
    assert_fails(
        evaluate(events, "--decisions", "x"), 2, "name a file of EVENTS, or a decision log"
    )
    assert_fails(evaluate("--decisions", "nowhere"), 2, "nowhere")
    assert_fails(evaluate("nowhere"), 2, "nowhere cannot be read")
    assert_fails(
        evaluate(events, "--resamples", 0, "--predictions", "no/such/p"), 1, "cannot be written"
    )
    for batch in ("0", "week"):
        done = evaluate(events, "--batch", batch)
        assert done.returncode == 2
        assert b"neither a number of events" in done.stderr
