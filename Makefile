# Everything runs from one virtual environment, made from the lock file on first use.

VENV := .venv
PYTHON ?= $(shell for each in python3.11 python3.12 python3.13 python3.14 python3; do \
	command -v $$each >/dev/null && $$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo $$each && break; done)
RUN := $(VENV)/bin/python -m
LOCK := $(VENV)/bin/uv pip compile --quiet --no-emit-index-url --generate-hashes --universal --python-version 3.11 \
	--custom-compile-command 'make lock' pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help demo up test check bench chaos soak lock clean

help:  ## List what can be made
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/  make \1|\2/p' Makefile | column -t -s '|'

demo: $(VENV)/installed  ## See Corral at work on a simulated fleet; TRACE=file replays a trace of workloads
	@$(RUN) worker demo $(if $(TRACE),--trace "$(TRACE)")

up: $(VENV)/installed  ## Run PostgreSQL, Temporal and a worker on this machine, until Ctrl-C
	@$(RUN) worker up

test: $(VENV)/installed  ## Run all tests; JOBS=3 files at a time
	@$(RUN) pytest --numprocesses $(or $(JOBS),3) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

check: $(VENV)/installed  ## Check format, style, types and the direction of imports
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(RUN) mypy
	@$(VENV)/bin/lint-imports

bench: $(VENV)/installed  ## Measure
	@$(RUN) tests.benchmarks

chaos: $(VENV)/installed  ## Let faults strike a pool at work; SEED=1 SECONDS=600 KEEP=directory
	@$(RUN) tests.chaos --seed $(or $(SEED),1) --seconds $(or $(SECONDS),600) $(if $(KEEP),--keep "$(KEEP)")

soak: $(VENV)/installed  ## Measure under a long load; WORKLOADS=10000
	@$(RUN) tests.benchmarks.soak --workloads $(or $(WORKLOADS),10000)

lock: $(VENV)/installed  ## Choose the newest versions that pyproject.toml allows
	@$(VENV)/bin/pip install --quiet uv
	@$(LOCK) --upgrade --all-extras --output-file requirements.lock
	@$(LOCK) --upgrade --extra scheduler --constraints requirements.lock --output-file deploy/requirements.lock

clean:  ## Remove the virtual environment, all caches, and the data of `make up`
	@rm -rf $(VENV) var dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Corral needs Python 3.11 or newer; install one, or say where it is: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Corral needs Python 3.11 or newer, which $(PYTHON) is not" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing what Corral needs into $(VENV)" >&2
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-compile --require-hashes -r requirements.lock
	@$(RUN) compileall -qq -j 0 $(VENV)/lib || true  # pip would compile on one processor alone
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index --editable .
	@touch $@
