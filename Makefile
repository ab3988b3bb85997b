# kpipe's workbench. `make` alone lists the targets; ARGS is handed on: make test ARGS="-k signal -x"

# The first Python from 3.11 on that can make an environment (a name alone proves little: pyenv shims, Debian without venv).
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; \
	done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
ARGS ?=

# Set by a shell or an image, it would have each process of the tests compile all of them anew: 12 s each.
unexport PYTHONDONTWRITEBYTECODE

.DELETE_ON_ERROR:
.PHONY: help venv demo kafka compiled test faults unit mutants lint types gen check bench soak site wheel coverage lock dist dist-check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

venv: $(VENV)/.tested ## make or refresh .venv with all that tests and lint need

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: no Python >= 3.11 with venv found; name one with make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runs: pyproject.toml | $(BIN)/python
	$(PIP) install --editable .
	@touch $@

# pip learned --group with 25.1. What is imported is compiled then: the rest of 90 packages took 8 s of CPU.
$(VENV)/.tested: pyproject.toml | $(BIN)/python
	$(PIP) install --upgrade 'pip>=25.1'
	$(PIP) install --no-compile --editable . --group broker --group test --group lint
	@touch $@ $(VENV)/.runs

demo: $(VENV)/.runs ## run the main job, visibly, on the embedded broker
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh

kafka: venv ## get Kafka for the tests
	$(BIN)/python -m tests.broker.lab.prepare

compiled: $(VENV)/.compiled ## compile the tests, once for all processes that run them

# What is wrong with them is said by the run.
$(VENV)/.compiled: $(VENV)/.tested $(shell find tests -name '*.py')
	@$(BIN)/python -m pytest --collect-only --quiet --quiet >/dev/null || true
	@touch $@

# Tests of brokers wait more than they compute, so four share two cores; they come first, and the small ones fill the end.
# One that crashes ends the run: with another in its place, pytest-xdist waits for ever for the rest of its file.
test: kafka compiled ## run all tests; those of the broker on a real Kafka
	@$(BIN)/python -m pytest --numprocesses 4 --max-worker-restart 0 --dist loadfile --no-loadscope-reorder -m 'not long' $(ARGS)

faults: kafka ## run the whole fault suite and all long tests, and write what happened to docs/faults.md
	$(PIP) install --group queues
	@mkdir -p docs
	@KPIPE_TESTS_COLD=1 FAULT_RUNS=100 FAULT_TABLE=docs/faults.md $(BIN)/python -m pytest --timeout 3600 tests/faults $(ARGS)
	@KPIPE_TESTS_COLD=1 $(BIN)/python -m pytest -m long tests/broker tests/process

unit: venv ## run the tests that need no broker
	@$(BIN)/python -m pytest tests/unit tests/golden tests/meta $(ARGS)

mutants: venv ## change the rooms of the promise one thing at a time: do the unit tests notice?
	@$(BIN)/python -m tests.mutants $(ARGS)

coverage: venv ## report what unit, golden and process tests reach, in subprocesses too
	$(PIP) install --group coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest tests/unit tests/golden tests/process $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: venv ## check style, format and the directions of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: venv ## check types
	$(BIN)/mypy

gen: venv ## write man pages, completions and reference from the options' declarations
	$(BIN)/python -m kpipe.cli.manual

check: venv ## fail if a generated file is not fresh
	$(BIN)/python -m kpipe.cli.manual --check

bench: kafka ## measure against kcat and a bare client loop, on a real broker
	@$(BIN)/python -m bench $(ARGS)

soak: kafka ## run the long fault test
	@$(BIN)/python -m bench.soak $(ARGS)

# Its own environment: nobody needs it to work on kpipe.
build/site-venv: pyproject.toml | $(BIN)/python
	rm -rf $@
	$(PYTHON) -m venv $@
	$@/bin/python -m pip --disable-pip-version-check --quiet install --upgrade 'pip>=25.1'
	$@/bin/python -m pip --disable-pip-version-check --quiet install --group site
	@touch $@

site: build/site-venv ## build the pages into build/site; a link that leads nowhere is an error
	build/site-venv/bin/python docs/make_site.py

wheel: $(BIN)/python ## build the wheel into dist/
	$(PIP) wheel --no-deps --wheel-dir dist .

# The tools of a release have an environment of their own: `make venv` stays quick.
DIST := .venv-dist
$(DIST)/.ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python >= 3.11 with venv found; name one with make PYTHON=..." >&2; exit 1; }
	test -x $(DIST)/bin/python || $(PYTHON) -m venv $(DIST)
	$(DIST)/bin/python -m pip --disable-pip-version-check --quiet install --upgrade 'pip>=25.1'
	$(DIST)/bin/python -m pip --disable-pip-version-check --quiet install --group dist
	@touch $@

lock: $(DIST)/.ready ## resolve the dependencies anew, with hashes, into pylock.toml
	$(DIST)/bin/python -m release lock

dist: $(DIST)/.ready ## build sdist, wheel, PEX, debs, formula, SBOM and sums of HEAD into dist/
	$(DIST)/bin/python -m release build $(ARGS)

dist-check: $(DIST)/.ready ## build them twice, compare, lint, install each into an empty root and use it (root, Linux)
	$(DIST)/bin/python -m release check $(ARGS)

clean: ## remove what was built and cached, not .venv
	rm -rf dist build .cache .venv-dist .coverage* htmlcov .kafka .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find kpipe tests -name __pycache__ -type d -prune -exec rm -rf {} +
