# The same few verbs for people, pre-commit and CI. Every verb sets up what it needs; `make upgrade` is the quick start.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup data upgrade kanji kanji-data test journeys test-all fmt lint types contracts check docs s3 cluster-test chaos fuzz constraints bench clean

help:  ## show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(STAMP)  ## virtual environment in .venv with this package and all it needs (3 to 6 minutes, 8 GB)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make setup PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

data: $(STAMP)  ## the quick start's images (Fashion-MNIST, 31 MB)
	$(BIN)/python -m fct_ray.sources.fashion_mnist

upgrade: data  ## the quick start: fit, embed, upgrade, compare, on real images
	$(BIN)/python jobs/upgrade.py $(ARGS)

kanji-data: $(STAMP)
	$(BIN)/python -m fct_ray.sources.kanji

kanji: kanji-data  ## the same on the second data set: kanji glyphs, known characters
	$(BIN)/python jobs/upgrade.py --config jobs/kanji.yaml $(ARGS)

test: data  ## all tests but journeys and slow ones (about 10 minutes on 2 cores)
	$(BIN)/python -m pytest -m "not slow and not journey" -n 2 $(ARGS)

journeys: data  ## whole stories: the notebook, S3 with faults, kills, edits in mid-run, a submitted job (about 18 minutes)
	$(BIN)/python -m pytest -m "journey and not slow" -n 2 $(ARGS)

test-all: data kanji-data  ## all tests (minutes more: the gate on kanji glyphs, a million rows)
	$(BIN)/python -m pytest $(ARGS)

fmt: $(STAMP)  ## format
	$(BIN)/ruff format . && $(BIN)/ruff check --fix --quiet .

lint: $(STAMP)  ## style and the walls between the rooms
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/lint-imports

types: $(STAMP)  ## mypy --strict
	$(BIN)/mypy

docs: $(STAMP)  ## the documentation as a site in build/site
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict $(ARGS)

check: lint types test  ## what CI runs, less the quick start

bench: data  ## the streaming stage beside a hand loop, plain Ray Data and Daft (about 15 minutes)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python jobs/bench.py throughput $(ARGS)

s3: $(STAMP)  ## a real S3 server on this machine for first steps; prints what to export
	@$(BIN)/python tests/s3_server.py --dir .data/s3 $(ARGS)

cluster-test: $(STAMP)  ## cluster files against their schemas, a job submitted to a real head node
	$(BIN)/python -m pytest tests/cluster tests/jobs/test_submit.py

fuzz: $(STAMP)  ## damaged manifests, receipts, Parquet, FAISS, model and settings files, at random (FUZZ=50 times the tests' budget)
	FCT_RAY_FUZZ=$(or $(FUZZ),50) $(BIN)/python -m pytest tests/fuzz $(ARGS)

chaos: data  ## kill processes of upgrades 200 times at seeded moments; nothing may be lost (about an hour)
	$(BIN)/python -m tests.chaos --kills 200 --seed 0 --log chaos.jsonl $(ARGS)

constraints: $(STAMP)  ## pin what is installed now into constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable | grep -v '^-e' > constraints.txt

clean:  ## remove the virtual environment and the quick start's results
	rm -rf $(VENV) .data/quickstart
