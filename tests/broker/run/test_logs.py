"""The log: one line for each message, as text or JSON, and no flood of any one kind."""

from __future__ import annotations

import io
import json
import logging
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.config import Config
from broker.run.logs import JsonFormatter, LimitedHandler, Limiter, TextFormatter, configure

if TYPE_CHECKING:
    from collections.abc import Iterator

A = ("broker.x", logging.INFO, "closing %s")
B = ("broker.x", logging.INFO, "opening %s")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the process logs, with the root logger as it was afterwards."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    yield stream
    for handler in set(root.handlers) - set(before):
        root.removeHandler(handler)
    root.setLevel(level)


def record(message: str, *args: object, level: int = logging.INFO, **fields: object) -> Any:
    made = {"name": "broker.x", "levelno": level, "levelname": logging.getLevelName(level)}
    return logging.makeLogRecord({**made, "msg": message, "args": args, "created": 0.25, **fields})


# ---- Limits


def test_a_burst_passes_and_what_follows_is_counted() -> None:
    limiter = Limiter(burst=3, per_minute=60)
    assert [limiter.admit(A, 100.0) for _ in range(5)] == [0, 0, 0, None, None]
    assert limiter.admit(B, 100.0) == 0
    assert limiter.admit(A, 101.0) == 2
    assert limiter.admit(A, 101.0) is None


def test_a_kind_that_has_gone_quiet_still_says_what_was_left_out() -> None:
    limiter = Limiter(burst=2, per_minute=60)
    for _ in range(7):
        limiter.admit(A, 0.0)
    assert limiter.settle(1.9) == []
    assert limiter.settle(2.0) == [(A, 5)]
    assert limiter.settle(9.0) == []


def test_kinds_beyond_the_bound_share_one_limit() -> None:
    limiter = Limiter(burst=1, per_minute=60, kinds=10)
    admitted = [limiter.admit(("library", 20, f"took {n} ms"), 0.0) for n in range(1_000)]
    assert admitted.count(0) == 11
    (((_, _, message), count),) = limiter.settle()
    assert (message, count) == ("messages of further kinds", 989)
    assert limiter.admit(("library", 20, "new"), 5.0) == 0  # those of before are forgotten


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.sampled_from([A, B]), st.floats(0, 5)), max_size=60),
    st.integers(1, 5),
    st.floats(1, 600),
)
def test_every_line_is_written_or_counted_and_no_rate_is_exceeded(
    asked: list[tuple[Any, float]], burst: int, per_minute: float
) -> None:
    limiter, now = Limiter(burst=burst, per_minute=per_minute), 0.0
    written: list[tuple[Any, float]] = []
    counted = 0
    for kind, pause in asked:
        now += pause
        left_out = limiter.admit(kind, now)
        if left_out is not None:
            written.append((kind, now))
            counted += left_out
    assert len(written) + counted + sum(n for _, n in limiter.settle()) == len(asked)
    for kind in (A, B):
        times = [at for each, at in written if each == kind]
        for first, begins in enumerate(times):
            for last, ends in enumerate(times[first:], first):
                most = burst + (ends - begins) * per_minute / 60
                assert last - first + 1 <= most + 1e-6


# ---- Forms


def test_a_json_line_has_time_level_logger_message_and_the_fields_that_are_known() -> None:
    line = JsonFormatter().format(
        record("closing %s", "oven", device="oven", seq=7, reason="stalled", left_out=3)
    )
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.250Z",
        "level": "info",
        "logger": "broker.x",
        "message": "closing oven",
        "device": "oven",
        "seq": 7,
        "reason": "stalled",
        "left_out": 3,
    }


def test_a_field_does_not_pass_for_what_is_ours() -> None:
    line = json.loads(JsonFormatter().format(record("x", level_=1, time="never", logger="me")))
    assert (line["time"], line["logger"]) == ("1970-01-01T00:00:00.250Z", "broker.x")


@given(st.text(), st.one_of(st.text(), st.floats(), st.binary(), st.none(), st.integers()))
def test_whatever_is_logged_is_one_line_of_json(text: str, value: object) -> None:
    line = JsonFormatter().format(record("got %s", text, device=value))
    assert line.isprintable() or "\n" not in line

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    found = json.loads(line, parse_constant=refuse)
    assert found["message"] == f"got {text}"[:8_192]
    if isinstance(value, float) and not math.isfinite(value):
        assert found["device"] == str(value)


def int_of(text: str) -> int:
    raise ValueError(text)


def test_a_traceback_stays_on_the_line() -> None:
    with pytest.raises(ValueError, match="broken") as raised:
        int_of("broken")
    found = record("failed", exc_info=(raised.type, raised.value, raised.tb))
    line = JsonFormatter().format(found)
    assert "\n" not in line
    assert json.loads(line)["traceback"].endswith("ValueError: broken")
    text = TextFormatter().format(found)
    assert text.splitlines()[-1] == "ValueError: broken"


def test_no_client_begins_a_line_of_its_own() -> None:
    text = TextFormatter().format(
        record("item on %s", "a\n2026-01-01 CRITICAL x: all is lost\x1b[2J")
    )
    assert "\n" not in text
    assert "\x1b" not in text
    assert "a\\n2026" in text


# ---- Together


def test_ten_thousand_lines_of_a_kind_become_a_few_and_a_count(log: io.StringIO) -> None:
    configure(Config(log={"format": "json", "burst": 5, "per_minute": 0.1}), log)
    logger = logging.getLogger("broker.test")
    for n in range(10_000):
        logger.info("closing device %d", n, extra={"device": f"d{n}"})
    logger.info("another kind")
    logging.getLogger().handlers[-1].close()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line.get("device") for line in lines[:5]] == [f"d{n}" for n in range(5)]
    assert lines[5]["message"] == "another kind"
    assert lines[6]["message"] == "9995 more messages were left out: closing device %d"
    assert len(lines) == 7


def test_last_words_are_never_left_out(log: io.StringIO) -> None:
    configure(Config(log={"burst": 1, "per_minute": 0.1}), log)
    for _ in range(3):
        logging.getLogger("broker.test").critical("the store is lost")
    assert log.getvalue().count("CRITICAL broker.test: the store is lost") == 3


def test_another_configuration_takes_the_place_of_the_one_before(log: io.StringIO) -> None:
    configure(Config(), log)
    logging.getLogger("elsewhere").debug("not shown")
    configure(Config(log_level="debug", log={"format": "json"}))
    logging.getLogger("elsewhere").debug("shown")
    assert json.loads(log.getvalue())["message"] == "shown"
    assert sum(isinstance(h, LimitedHandler) for h in logging.getLogger().handlers) == 1
    assert not logging.getLogger("amqtt").isEnabledFor(logging.INFO)
