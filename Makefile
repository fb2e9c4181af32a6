# The project's commands. `make` lists them.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m

.PHONY: help setup demo dev check docs test test-postgres test-slow soak audit bench study study-seeds clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/ready ## install everything into .venv

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup ## load the last days, through Dagster, check them, and show what came
	$(RUN) analytics_dagster.demo

dev: setup ## the UI, at http://127.0.0.1:3000
	$(VENV)/bin/dg dev --host 127.0.0.1

check: setup ## lint, types, layers, definitions
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/dg check defs

docs: setup ## renew the generated tables of the README, and docs/questions.md
	$(RUN) analytics_dagster_tests.support.documents

test: setup ## the test suite, but for what takes longer
	$(RUN) pytest -m 'not slow and not postgres' -n 2 --dist loadfile

test-postgres: setup ## the tests that run on PostgreSQL as well, on a server that they start
	$(RUN) pytest -m 'postgres and not slow' -n 2 --dist loadfile

test-slow: setup ## what takes longer: processes of Dagster, kills, simulated days
	$(RUN) pytest -m slow

soak: setup ## 500 hours of simulated time with faults, crashes and late rows; half an hour
	$(RUN) analytics_dagster_tests.support.simulation --ticks 500 --output docs/soak.svg

audit: setup ## known vulnerabilities of the pinned versions; fails where it cannot tell
	$(RUN) pip install --quiet --disable-pip-version-check 'pip-audit>=2.9'
	$(RUN) pip_audit --strict --requirement constraints.txt --no-deps --disable-pip

bench: setup ## what a load costs, beside plain dlt and the fastest loop; half an hour
	$(RUN) analytics_dagster_tests.benchmark

study: setup ## how often the verdicts on deploys are right, on simulated counts; some minutes
	OMP_NUM_THREADS=1 $(RUN) analytics_dagster_tests.study

study-seeds: setup ## how often they are right on 200 seeds of the sandbox, through the assets; some ten minutes
	OMP_NUM_THREADS=1 $(RUN) analytics_dagster_tests.study.seeds

clean: ## remove the environment and caches; warehouses and Dagster's history stay
	rm -rf $(VENV) *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
