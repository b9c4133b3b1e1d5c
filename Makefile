# triage: `make help` lists everything.
SHELL := /bin/sh
PY := .venv/bin/python
PYTEST := $(PY) -m pytest
SEEDS ?= 20000
.DEFAULT_GOAL := help
# What tests and parts import is compiled once and kept, also where an image forbids it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install install-test demo test test-faults test-simulation lint bench docs clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' Makefile

install: ## virtual environment .venv with the product, pinned and hashed
	@requirements/install.sh runtime

install-test: ## the same with what tests and checks need
	@requirements/install.sh test
	@tests/install-programs.sh

demo: install ## start everything here, send sample studies, print the list (ARGS="--once")
	@exec $(PY) -m triage.cli.main demo $(ARGS)

test: install-test lint ## checks and tests, under 20 minutes
	$(PYTEST) -n 3 --dist loadgroup --no-loadscope-reorder -k "not 10000" tests

test-faults: install-test ## the fault matrix with its full numbers (ONLY=name)
	TRIAGE_TEST_FULL=1 $(PYTEST) -m faults $(if $(ONLY),-k $(ONLY)) tests

test-simulation: install-test ## many seeds of the workflow simulation (SEEDS=20000, or SEED=n to replay one)
	$(PY) -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

lint: install-test ## style, types, import rule
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check -q .
	@$(PY) -m mypy
	@.venv/bin/lint-imports --no-cache >/dev/null || .venv/bin/lint-imports --no-cache

bench: install-test ## published figures (ONLY=name), each command in bench/
	$(PY) -m bench $(ONLY)

docs: install-test ## reference pages from the code, and the pictures of the pages
	$(PY) -m tests.reference_pages
	$(PY) -m tests.web.picture docs/images

clean: ## remove the virtual environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
