"""Debian's Prometheus: its tool to check rules, and the server itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml  # type: ignore[import-untyped] # stubs for one call are not worth a dependency

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60.0
"""Seconds until a program must have done what is waited for."""


def program(name: str) -> str:
    """Where it is; without it skip, but fail under CI, which promises it."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed, although CI is set")
        pytest.skip(f"{name} is not installed")
    return found


def promtool(*words: str | Path) -> str:
    """What it prints; what it finds wrong is an `AssertionError`."""
    done = subprocess.run(
        [program("promtool"), *words], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_expressions(expressions: Iterable[str], directory: Path) -> None:
    """Have every expression parsed, as the expression of a rule."""
    rules = [
        {"record": f"expression:{number}", "expr": expr}
        for number, expr in enumerate(expressions, 1)
    ]
    file = directory / "expressions.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    said = promtool("check", "rules", file)
    assert f"{len(rules)} rules found" in said


class Prometheus:
    """A server that runs.

    Args:
        address: Its host and port.
    """

    def __init__(self, address: str) -> None:
        self._url = f"http://{address}/api/v1/"

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of one answer."""
        url = f"{self._url}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        """What an expression yields now."""
        return list(self.ask("query", query=expr)["result"])


@contextmanager
def prometheus(directory: Path, target: str, rules: Path) -> Iterator[Prometheus]:
    """Prometheus scraping one target as the job `fleetfeed`, five times a second."""
    file = directory / "prometheus.yml"
    job = {"job_name": "fleetfeed", "static_configs": [{"targets": [target]}]}
    config = {
        "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
        "rule_files": [str(rules)],
        "scrape_configs": [job],
    }
    file.write_text(yaml.safe_dump(config))
    promtool("check", "config", file)
    process = subprocess.Popen(
        [
            program("prometheus"),
            f"--config.file={file}",
            f"--storage.tsdb.path={directory / 'tsdb'}",
            "--web.listen-address=127.0.0.1:0",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Prometheus(_address(process))
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def _address(process: subprocess.Popen[str]) -> str:
    """Where it listens, as its log says, once it answers."""
    assert process.stderr is not None
    said, address = [], ""
    for line in process.stderr:
        said.append(line)
        if found := re.search(r'msg="Listening on" address=(\S+)', line):
            address = found[1]
        if "Server is ready" in line and address:
            return address
    raise AssertionError("".join(said))
