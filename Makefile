# `make demo` and `make test` need Python 3.10 with pip, nothing else: the environment is built at
# first use and again whenever its inputs change.
#   make test ARGS="tests/unit -k losses"     pass arguments to pytest
#   make test PROCESSES=0 ARGS=--pdb          in one process, as a debugger needs
#   make demo DISTILL_PYTHON=3.12             another Python (3.11 and later need glibc >= 2.39)

SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help setup demo stream test lint format bench bench-speed bench-quality bench-stream bench-gate test-next clean

BIN := .venv/bin
SETUP := pyproject.toml uv.lock .ci/setup .ci/uv .ci/find-python .ci/facets .ci/compile
SETUP_NEXT := $(SETUP) .ci/setup-next .ci/unpack-glibc .ci/use-glibc
ARGS ?=
# Of the tests; those of a file stay in one of them.
PROCESSES ?= 2
export DISTILL_PYTHON

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: .venv/.ready ## Build .venv from the lock file (done by the targets that need it)

demo: .venv/.ready ## Distil two students from simulated logs and show the result
	$(BIN)/distill data simulator
	$(BIN)/distill run configs/video.yaml $(ARGS)

stream: .venv/.ready ## Run a simulated stream of eight days, day by day
	$(BIN)/distill data simulator --spans 8 --examples 20000 --into data/stream
	$(BIN)/distill run configs/stream.yaml $(ARGS)
	$(BIN)/distill status configs/stream.yaml

test: .venv/.ready ## Run the tests: unit, component, end to end
	$(BIN)/pytest --numprocesses $(PROCESSES) --dist loadfile $(ARGS)

lint: .venv/.ready ## Check style, types, spelling, the lock file and the layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy -p tfx_distill
	$(BIN)/typos
	.ci/uv lock --check --offline --quiet
	$(BIN)/pytest --quiet tests/unit/test_layering.py

format: .venv/.ready ## Rewrite the code in its style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/.ready ## Measure the speed of everything at small size, against the stored ratios
	$(BIN)/python -m benchmarks $(ARGS)

bench-speed: .venv/.ready ## Measure the speed of everything at full size
	for name in labeler sharing join input embeddings simulator pipeline scale; do \
	    $(BIN)/python -m benchmarks.$$name --json runs/bench/$$name.json || exit 1; done

bench-quality: .venv/.ready ## Measure what distillation is worth, over five seeds
	$(BIN)/python -m benchmarks.quality.distillation $(ARGS)

bench-stream: .venv/.ready ## Measure a stream: its costs, kills, a second student, and what each choice is worth
	$(BIN)/python -m benchmarks.stream.endurance
	$(BIN)/python -m benchmarks.stream.endurance --examples 1000 --into runs/endurance-small
	$(BIN)/python -m benchmarks.stream.kills
	$(BIN)/python -m benchmarks.stream.second_student
	$(BIN)/python -m benchmarks.online

bench-gate: .venv/.ready ## Measure the gate: what its bounds cost, whether they hold, and what they see
	$(BIN)/python -m benchmarks.gate.cost
	$(BIN)/python -m benchmarks.gate.coverage
	$(BIN)/python -m benchmarks.gate.power

test-next: .venv-next/.ready ## Run the tests on the newer TFX line (Python >= 3.11)
	.venv-next/bin/pytest --numprocesses $(PROCESSES) --dist loadfile $(ARGS)

clean: ## Remove the environments and caches, not the runs
	rm -rf .venv .venv-next .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/.ready: $(SETUP)
	.ci/setup

.venv-next/.ready: $(SETUP_NEXT)
	.ci/setup-next
