# `make` alone prints this help: a target is listed by the text after `##`.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
# Processes that run tests side by side: most of the slow ones wait most of the time.
TESTERS ?= 3
BIN := $(VENV)/bin
export PYTHONPATH := operator:.

help: ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(VENV)/.stamp ## Install everything the project needs into .venv (hashed locks)

$(VENV)/.stamp: requirements-dev.lock pyproject.toml
	@echo "setting up $(VENV) (once; about 20 seconds with a warm package cache)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make setup PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed: install your system's python3-venv package" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip -q
	@test -x $(BIN)/uv || $(BIN)/python -m pip install -q --disable-pip-version-check uv
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements-dev.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -e .
	@touch $@

lock: ## Resolve the dependencies anew into the hashed lock files
	$(BIN)/uv pip compile -q --generate-hashes --no-header --no-emit-index-url pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --generate-hashes --no-header --no-emit-index-url --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	printf 'hatchling\nuv\n' | $(BIN)/uv pip compile -q --generate-hashes --no-header --no-emit-index-url - -o requirements-build.lock

fmt: setup ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: setup ## Lint: style, names, bans, one-way imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

type: setup ## Check types (mypy strict)
	$(BIN)/mypy

test: setup ## Run every test
	@$(BIN)/python -m dev.controlplane.build > /dev/null
	$(BIN)/python -m pytest -n $(TESTERS) --dist loadscope --no-loadscope-reorder

crds: setup ## Generate crds/ from the models
	$(BIN)/python -m incident_operator.api.crd crds

docs: setup ## Write docs/actions/ and docs/runbooks/ from the code and the runbooks
	$(BIN)/python -m tests.repo.action_pages
	$(BIN)/python -m tests.repo.runbook_pages

up: setup ## Start the whole stack on this machine and leave it running
	@$(BIN)/python -m dev.stack up

down: setup ## End everything that `make up` started
	@$(BIN)/python -m dev.stack down

status: setup ## Tell what of the stack runs, and where
	@$(BIN)/python -m dev.stack status

faults: setup ## List what can be broken in the shop
	@$(BIN)/python -m dev.shop faults

break: setup ## Break something: make break FAULT=inc-2023-1247
	@$(BIN)/python -m dev.shop break --wait $(FAULT)

heal: setup ## Undo a fault: make heal FAULT=inc-2023-1247, or FAULT=all
	@$(BIN)/python -m dev.shop heal $(FAULT)

demo: setup ## From nothing to a resolved incident, on this machine
	@$(BIN)/python -m dev.demo

bench: setup ## Measure, and print the table
	@$(BIN)/python -m dev.bench

check: lint type test ## What CI runs: lint, types, contracts, tests

.PHONY: help setup lock fmt lint type test crds docs up down status faults break heal demo bench check
