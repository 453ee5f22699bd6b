# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-slurm test-kernels test-populations check lint types bench mutants results screenshot clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q 'pip>=25.1'
	$(PIP) install -q -c constraints.txt torch numpy
	$(PIP) install -q -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) install -q -c constraints.txt -e '.[data,search,slurm]' --group test --group lint
	touch $@

demo: $(VENV)/.core ## the main job on real images: a live table, then runs/demo/report.html
	$(BIN)/equipoise demo

test: $(VENV)/.dev ## the tests, without the slow ones (under six minutes on two cores)
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile -m "not slow"

test-all: $(VENV)/.dev ## every test
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile

lint: $(VENV)/.dev ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## types
	$(BIN)/pyright

test-slurm: $(VENV)/.dev ## the SLURM executor against a controller on this machine (root; apt-get install slurm-wlm munge)
	EQUIPOISE_TEST_SLURM=1 $(BIN)/python -m pytest -q -rs tests/slurm

# Beside the environment, in which torch chooses Triton's version itself.
build/kernels/triton:
	$(PIP) install -q --no-deps --target build/kernels triton==3.7.0

test-kernels: $(VENV)/.dev build/kernels/triton ## the GPU kernels of spiking cells, by Triton's interpreter on the CPU
	PYTHONPATH=build/kernels $(BIN)/python -m tests.kernels

test-populations: $(VENV)/.dev ## every rule x circuit x optimiser against its solo run, and the table of the guide (minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.populations --check

check: lint types test-all ## lint, types, every test

bench: $(VENV)/.dev ## speed, as ratios against named baselines; be alone on the machine
	$(BIN)/python -m benchmarks

mutants: $(VENV)/.dev ## sabotage the core line by line; the tests must notice each time
	$(BIN)/python -m tests.mutants

results: $(VENV)/.dev ## write the list of results and the tables of the guides anew from results/
	$(BIN)/python -m equipoise.report.listing
	$(BIN)/python -m equipoise.cli.documents

screenshot: $(VENV)/.core ## pictures of the demo's page at 375 and 1280 px (needs Debian's chromium)
	$(BIN)/python scripts/screenshot.py runs/demo/report.html

clean: ## remove what the commands above made
	rm -rf $(VENV) build .pytest_cache .ruff_cache .hypothesis
