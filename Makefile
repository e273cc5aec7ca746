# Everything from a fresh clone: `make demo`, `make test`. Needs Python 3.11 or newer, git and make.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# Passed on to the demo: make demo DEMO="--seconds 60 --devices 500"
DEMO ?=
# Passed on to the fault suite: make faults FAULTS="--rounds 1000 --seed 7"
FAULTS ?=
# Passed on to the fault suite of nodes: make nodefaults NODEFAULTS="--rounds 30 --only partition"
NODEFAULTS ?= --rounds 10
# Passed on to the fuzzers: make fuzz FUZZ="packets --seconds 600"
FUZZ ?= --seconds 15
# The log that docs/ranking.md draws from, which is not shipped: make pictures KUAIRAND=kuairand.tsv.gz
KUAIRAND ?=
# Passed on to pytest: make test TESTS="tests/devices -k snapshot"
TESTS ?=
# Processes that run tests: make test JOBS=0 for one, with its output as it comes
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test faults nodefaults fuzz lint format types rules bench pictures clean ci

help: ## what there is to make
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(READY) ## .venv with the project and its tools

# A stamp and not the directory: a set-up that broke off is done again, a finished one never.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "fleetfeed needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version)." \
		"Name another with: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(BIN)/python -m tests.devices.micropython.get_umqtt
	@touch $@

demo: $(READY) ## a server, a fleet, real news, and the proof that every feed is right
	@$(BIN)/python -m broker demo $(DEMO)

test: $(READY) ## all tests
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile $(TESTS)

faults: $(READY) ## kill, cut, delay, fill the disk, step the clock, and prove that every promise holds
	@$(BIN)/python -m broker faults $(FAULTS)

nodefaults: $(READY) ## the same for three nodes on a Redis Cluster; needs redis-server
	@$(BIN)/python -m broker faults --nodes 3 $(NODEFAULTS)

fuzz: $(READY) ## coverage-guided fuzzing of every decoder
	$(BIN)/python -m tests.fuzz.run $(FUZZ)

lint: $(READY) ## style and common mistakes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(READY) ## put the sources into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(READY) ## static types, strict
	$(BIN)/mypy

# Yours too, as deploy/alerts-of-yours.yml with deploy/alerts-of-yours_test.yml. Needs promtool, of Prometheus.
rules: ## check the alerts of deploy/, and see them fire
	promtool check config --syntax-only deploy/prometheus.yml
	promtool check rules $(filter-out %_test.yml,$(wildcard deploy/alerts*.yml))
	promtool test rules $(wildcard deploy/alerts*_test.yml)

bench: $(READY) ## every benchmark, one after the other
	@set -e; for script in $(addprefix benchmarks/,$(addsuffix .py,push growth connect latency spike isolation page engine ranking memory feedback nodes gateway idle_fleet)); do echo "# $$script"; $(BIN)/python "$$script"; done

pictures: $(READY) ## the figures of docs/ranking.md
	$(BIN)/python -m benchmarks.pictures $(if $(KUAIRAND),--kuairand $(KUAIRAND))

ci: ## what continuous integration runs, on a clean machine
	.ci/run

clean: ## remove .venv and everything that tools left behind
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
