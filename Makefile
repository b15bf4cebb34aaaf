# Every target works on a fresh Debian 12 or newer with only Python, make and apt,
# as root or with sudo. See CONTRIBUTING.md for what each one is for.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# As installed: a daemon that has to be compiled at each start takes twice as long.
unexport PYTHONDONTWRITEBYTECODE
# The folders dns/, ipam/, ... beside cnm/ must never be imported by their bare names.
export PYTHONSAFEPATH := 1

VENV := .venv
BIN := $(VENV)/bin
# Namespaces need root; what is only built or checked does not.
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo --preserve-env=PYTHONSAFEPATH,SEED,UPDATE_GOLDEN)
# Kernel tests wait for RCU more than they compute: more workers than cores pay.
WORKERS ?= 4
PYTEST := $(AS_ROOT) $(BIN)/python -m pytest

.PHONY: help setup demo test vmtest torture soak bench bench-readme lint clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

setup: ## install what is missing: Debian packages, .venv, the project
	@scripts/setup.sh

demo: setup ## two networks, a kill -9 and the repair, on a stage of its own
	@$(AS_ROOT) env PYTHONPATH=scripts $(BIN)/python scripts/demo.py

# One after the other: emulated, beside the rest, the VM lab takes twice as long and starves both.
test: setup ## the whole test suite, on this kernel, then on the VM lab's
	@$(PYTEST) -n $(WORKERS) --dist=loadgroup -m "not slow and not vm" tests
	@$(PYTEST) -v -m "not slow" --vm only tests

vmtest: setup ## only the tests that need the VM lab
	@$(PYTEST) -v -m "not slow" --vm only tests

torture: setup ## SIGKILL at every kernel step of every verb and of labs; the largest labs
	@$(PYTEST) -n $(WORKERS) --dist=worksteal -m slow tests/torture tests/lab tests/kernel tests/protocol

soak: setup ## ten minutes of connect and disconnect, a million packets, a thousand containers
	@$(PYTEST) -m slow -s tests/soak

bench: setup ## us beside the peers and the bare kernel; build/bench.json, build/bench.svg
	@$(AS_ROOT) env PYTHONPATH=tests $(BIN)/python -m bench $(BENCH)

bench-readme: ## the figures of the last run into README.md and docs/performance.md
	@PYTHONPATH=tests $(BIN)/python -m bench --pages

lint: setup ## formatter check, linter, strict types, floors
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

clean: ## remove what was built, the environment included
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
