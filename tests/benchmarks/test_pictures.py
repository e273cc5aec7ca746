"""The figures of the documentation: drawn from what they say, readable on any ground."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from benchmarks import pictures
from feedgen.evaluate import plots
from tests.world.episodes import CHANGE

ROOT = Path(__file__).parents[2]

EXPOSURE = {
    "merit": np.array([0.7, 0.3]),
    "exposure_uncorrected": np.array([0.9, 0.1]),
    "exposure_corrected": np.array([0.75, 0.25]),
}
EPISODE = {
    "hours": np.arange(2 * CHANGE) / 6,
    "missed": np.linspace(0.5, 0.3, 2 * CHANGE),
    "popularity": np.full(2 * CHANGE, 0.4),
    "rung": np.repeat([2.0, 0.0], CHANGE),
}


@pytest.mark.parametrize("svg", [pictures.exposure(EXPOSURE), pictures.drift([EPISODE] * 2)])
def test_a_picture_by_itself_has_a_ground_and_colours_for_both_themes(svg: str) -> None:
    picture = pictures.alone(svg)
    root = ET.fromstring(picture)
    assert root[1].get("id") == "card"
    assert "var(" not in picture
    for light, dark in ((plots.SERIES[0], plots.SERIES_DARK[0]), (plots.INK, plots.INK_DARK)):
        assert f'[style*="stroke: {light}"]{{stroke:{dark}!important}}' in picture
        assert picture.count(light) > 2


def test_a_drift_episode_names_only_the_rungs_that_served() -> None:
    texts = re.findall(r"<text[^>]*>([^<]+)</text>", pictures.drift([EPISODE]))
    assert {"live", "popularity"} <= set(texts)
    assert not {"snapshot", "newest"} & set(texts)


def test_the_same_series_gives_the_same_file() -> None:
    assert pictures.exposure(EXPOSURE) == pictures.exposure(EXPOSURE)


def test_the_log_is_converted_as_by_the_converter_in_the_documentation(tmp_path: Path) -> None:
    log = tmp_path / "log.tsv.gz"
    with gzip.open(log, "wt") as file:
        file.write("user_id\tvideo_id\ttime_ms\tis_click\tlong_view\tduration_ms\tlabel\n")
        file.write("7\t12\t1649581149287\t1\t0\t45916\t1\n")
        file.write("7\t13\t1649581149299\t1\t1\t3000\t0\n")
        file.write("8\t12\t1649491149287\t1\t1\t45916\t1\n")
    page = (ROOT / "docs/ranking.md").read_text()
    converter = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0]
    command = [sys.executable, "-c", converter, str(log), "long_view"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    converted = [json.loads(line) for line in done.stdout.splitlines()]
    labels = [each.pop("y") for each in converted]
    found = pictures.kuairand(log)
    assert labels == [y for _, y in found] == [1, 0]
    assert converted == [
        {name: value for name, value in event.items() if name != "device_fields"}
        for event, _ in found
    ]
