# `make help` lists what there is. Everything is installed into .venv (and .venvs for the SDKs under test) from
# hash-locked files; nothing is installed outside this checkout but models, which go to the data directory.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-sdks demo demo-bot serve fmt check test test-sdks test-upstreams compatibility wire fuzz crash bench soak drain docs lock clean

help: ## what each target does
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Arkway needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Say which: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(BIN)/python requirements/build.txt requirements/embedded.txt pyproject.toml
	@echo "installing Arkway and its embedded engine into $(VENV)"
	@$(PIP) -r requirements/build.txt
	@$(PIP) -r requirements/embedded.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.bots: $(VENV)/.run requirements/bots.txt
	@echo "installing what bots need to read documents and pages into $(VENV)"
	@$(PIP) -r requirements/bots.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@echo "installing the tools for tests and checks into $(VENV)"
	@$(PIP) -r requirements/dev.txt
	@touch $@

setup: $(VENV)/.run ## install what running needs

setup-dev: $(VENV)/.dev ## install what tests and checks need

setup-sdks: $(VENV)/.dev ## install the SDKs under test: Python, Go, Java, Node
	@$(BIN)/python tests/sdk/environments.py
	@$(BIN)/python tests/sdk/toolchains.py

demo: $(VENV)/.run ## pull the default model, start a server, ask it with the official Ark SDK, stop
	@$(BIN)/python tests/sdk/environments.py ark
	@$(BIN)/python scripts/demo.py $(ARGS)

demo-bot: $(VENV)/.bots ## a bot over the documents of examples/library-bot: three questions, with sources and usage
	@$(BIN)/python examples/library-bot/run.py

serve: $(VENV)/.run ## run the server (ARGS='--port 9000')
	@$(BIN)/arkway serve --pull $(ARGS)

fmt: $(VENV)/.dev ## format and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

check: $(VENV)/.dev ## format, lint, types, import directions
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

test: $(VENV)/.dev ## every test but the SDKs' and the long programmes
	@$(BIN)/python tests/sdk/environments.py ark ark-2024 arkruntime openai smg
	@$(BIN)/python scripts/run_tests.py $(ARGS)

test-sdks: setup-sdks ## the unmodified official SDKs of four languages against a scripted server
	@rm -rf .cache/conformance
	@$(BIN)/python scripts/run_tests.py --sdks $(ARGS)
	@$(BIN)/python scripts/compatibility.py --check

test-upstreams: $(VENV)/.dev ## upstreams against real servers, vLLM among them (5 GB; Linux, x86-64)
	@$(BIN)/python tests/sdk/environments.py smg vllm
	@$(BIN)/python -m pytest -q tests/contract/upstream tests/contract/vllm $(ARGS)

compatibility: $(VENV)/.dev ## write the table of clients and cases from the last `make test-sdks`
	@$(BIN)/python scripts/compatibility.py

fuzz: $(VENV)/.dev ## signatures, 100,000 mutated requests against a second implementation; properties, ten times as long
	@ARKWAY_FUZZ_CASES=100000 $(BIN)/python -m pytest -q tests/unit/signing
	@ARKWAY_EXAMPLES=10 $(BIN)/python -m pytest -q tests/security tests/contract/usage tests/unit/wire

wire: $(VENV)/.dev ## write the golden wire files anew; read the diff before you commit it
	@$(BIN)/python -m pytest -q tests/wire --regenerate

crash: $(VENV)/.dev ## kill -9 under load, 200 rounds
	@ARKWAY_CRASH_ROUNDS=200 $(BIN)/python -m pytest -q tests/crash

bench: $(VENV)/.dev ## measure; docs/benchmarks.md says what the figures mean (ARGS=peers: beside other gateways)
	@$(BIN)/python -m benchmarks $(ARGS)

soak: $(VENV)/.dev ## 300,000 mixed calls; memory, descriptors and tasks have to stay (ARGS='--requests 20000')
	@$(BIN)/python -m benchmarks.soak $(ARGS)

drain: $(VENV)/.dev ## 50 stops under 200 streams, 100 reloads under load
	@$(BIN)/python -m pytest -q -m long tests/security/test_drain.py $(ARGS)

docs: $(VENV)/.dev ## write the generated parts of docs/ anew
	@$(BIN)/python scripts/generate_docs.py

lock: ## make requirements/*.txt anew (needs pip-tools)
	@requirements/lock.sh

clean: ## remove environments and caches of this checkout
	@rm -rf $(VENV) .venvs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
