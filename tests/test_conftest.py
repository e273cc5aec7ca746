"""The watch over the log is itself watched: pytest runs inside, with the same conftest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")


@pytest.fixture
def verdict(tmp_path):
    """Run the body of a test under our conftest and return pytest's exit code and output."""

    def run(*body: str, above: str = "", env=None) -> tuple[int, str]:
        (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
        lines = ["import logging, pytest", "log = logging.getLogger('broker.x')", above]
        lines += ["def test_it():", *(f"    {line}" for line in body)]
        (tmp_path / "test_it.py").write_text("\n".join(lines))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--strict-markers"],
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    return run


MARK = "@pytest.mark.logs_errors"
EXCEPTION = ("try: 1 / 0", "except ZeroDivisionError: log.exception('broken')")


def test_ordinary_logging_passes(verdict):
    code, _ = verdict("log.error('no %s here', 'exception')", "log.debug('%d', 1)")
    assert code == 0


@pytest.mark.parametrize("level", ["debug", "error"])
@pytest.mark.parametrize("above", ["", MARK])
def test_a_badly_formatted_record_fails_the_test_at_every_level(verdict, level, above):
    code, said = verdict(f"log.{level}('%d items', 'three')", above=above)
    assert code == 1
    assert "badly formatted log record at" in said
    assert "'%d items' % ('three',)" in said


def test_an_exception_in_the_log_fails_the_test(verdict):
    code, said = verdict(*EXCEPTION)
    assert code == 1
    assert "exception in the log: broker.x: broken" in said


def test_an_exception_in_the_log_of_others_does_too(verdict):
    code, _ = verdict("try: 1 / 0", "except Exception: logging.getLogger('asyncio').exception('x')")
    assert code == 1


def test_a_marked_test_may_log_exceptions(verdict):
    assert verdict(*EXCEPTION, above=MARK)[0] == 0


def test_the_level_of_our_loggers_is_put_back(verdict):
    body = "assert logging.getLogger('broker').level == logging.DEBUG"
    after = "def teardown_module(): assert logging.getLogger('broker').level == logging.NOTSET"
    assert verdict(body, above=after)[0] == 0


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
def test_without_mosquitto_its_tests_are_skipped_but_fail_under_ci(verdict, ci, code):
    # As if it were not installed anywhere.
    above = "import shutil\nshutil.which = lambda *_, **__: None\n"
    above += "@pytest.mark.usefixtures('mosquitto')"
    found, said = verdict("pass", above=above, env={"CI": ci})
    assert (found, "not installed: mosquitto, mosquitto_pub, mosquitto_sub" in said) == (
        code,
        bool(ci),
    )
