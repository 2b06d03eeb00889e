# Needs Python ≥ 3.11 with pip and venv, and make; everything else comes into .venv.
PYTHON ?= python3
SHELL := /bin/sh
.DEFAULT_GOAL := help
# Twice as many as CI has cores: many a test waits for what it has started. Who has run out takes tests of another.
TESTERS := 4
TEST = .venv/bin/python -m pytest -n $(TESTERS) --dist worksteal
# Else each tester compiles every test once more before the first one starts: as much again as to collect them.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help demo test acceptance check format lint types bench bench-peers fuzz trials clean

SOURCES := $(shell find pgflow_cli sql -type f -not -name '*.pyc')
# pip before 25.1 cannot read dependency groups.
DEV_TOOLS := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"], sep="\n")

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

demo: .venv/.demo  ## start a private PostgreSQL and watch jobs run; nothing is left behind
	@.venv/bin/pgflow demo $(ARGS)

test: .venv/.dev  ## run every test (ARGS="-k replay" for some)
	@$(TEST) $(ARGS)

acceptance: .venv/.dev  ## run the tests that start the real executable, the long ones, too
	@$(TEST) -m 'long or not long' tests/acceptance tests/trials $(ARGS)

check: format lint types test  ## format, lint, types, tests

format: .venv/.dev  ## bring the code into shape
	@.venv/bin/ruff format .

lint: .venv/.dev  ## ruff: rules and shape
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .

types: .venv/.dev  ## mypy --strict
	@.venv/bin/mypy

bench: .venv/.dev  ## measure against pgbench on this machine
	@.venv/bin/python -m tests.benchmarks $(ARGS)

bench-peers: .venv/.dev  ## measure beside other queues from PyPI and npm (ARGS="--help")
	@.venv/bin/python -m tests.benchmarks.peers $(ARGS)

fuzz: .venv/.dev  ## ask the API what its document allows and forbids (ARGS="--examples 1000 --seed 7")
	@.venv/bin/python -m tests.admin.fuzzing $(ARGS)

trials: .venv/.dev  ## long trials: faults by the hundred, orders of statements (ARGS="--minutes 15 --seed 7")
	@.venv/bin/python -m tests.trials $(ARGS)

clean:  ## remove the virtual environment and what tools left
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# What a newcomer's `pip install` gives. A .venv for development has it already, from the tree itself.
.venv/.demo: pyproject.toml $(SOURCES)
	@test -e .venv/.dev || { echo 'installing pgflow into .venv'; $(PYTHON) -m venv .venv && .venv/bin/pip install -q '.[embedded]'; }
	@touch $@

# PostgreSQL 16, for tests: PGFLOW_TEST_PG_BIN="$PWD/.venv/pg16/pgserver/pginstall/bin" make test
.venv/pg16: .venv/.dev
	@.venv/bin/pip install -q --no-deps --only-binary :all: --target $@ pgserver==0.1.4
	@chmod +x $@/pgserver/pginstall/bin/*
	@touch $@

.venv/.dev: pyproject.toml
	@echo 'installing pgflow and what its tests need into .venv: a minute or two'
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -c '$(DEV_TOOLS)' > .venv/dev.txt
	@.venv/bin/pip install -q -e '.[embedded]' -r .venv/dev.txt
	@touch $@
