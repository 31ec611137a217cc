# Two commands matter: `make demo` and `make test`. Each makes its own environment in .venv first.
# Needs a POSIX shell, make, and Python 3.11 or newer with its venv module; nothing else.

SHELL = /bin/sh
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
TOPIC ?=
OUT ?= demo
PYTEST_ARGS ?=
# Test files are shared out among the cores; PYTEST_WORKERS=0 runs them one after another in one process
PYTEST_WORKERS ?= auto
TORCH_CPU ?= https://download.pytorch.org/whl/cpu

# One BLAS thread a process: small matrices are not faster with more, and timings mean something
ONE_THREAD = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 VECLIB_MAXIMUM_THREADS=1
# Tests and reports draw into files, never into a window
BATCH = $(ONE_THREAD) MPLBACKEND=Agg

PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
CHECKED = src tests benchmarks examples docs

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test tests lint types layers format bench peers docs env clean

help:  ## say what can be made
	@echo "make demo    environment, then the guided tour on real data or phantoms; report in $(OUT)/"
	@echo "make test    environment, then style, types, layers and every test"
	@echo "make lint    ruff: style and formatting only"
	@echo "make types   mypy only            make layers  import-linter only"
	@echo "make tests   pytest only          (PYTEST_ARGS='-k lattice' to choose)"
	@echo "make format  let ruff rewrite the code"
	@echo "make bench   benchmarks; TOPIC='imports refine' to choose; writes benchmarks/RESULTS.md"
	@echo "make peers   the other packages that benchmarks compare with, in .venv-peers and .venv-peers-*"
	@echo "make docs    HTML documentation in docs/_build/html"
	@echo "make env     the environment only"
	@echo "make clean   remove environments, caches and built pages"

# ---------------------------------------------------------------- environments
# Stamp files say which set is installed; a change of pins or of dependencies installs again.

$(VENV)/.stamp-run: pyproject.toml constraints.txt
	@PYTHON="$(PYTHON)" sh .ci/venv.sh "$(VENV)"
	@echo "installing fairstem into $(VENV) (the first time takes a few minutes)"
	@$(PIP) install --upgrade "pip>=25.1"
	@$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-run
	@echo "installing the tools for tests and style"
	@$(PIP) install --constraint constraints.txt --group dev --editable ".[simulate]"
	@touch $@

$(VENV)/.stamp-docs: $(VENV)/.stamp-run
	@echo "installing the tools for the documentation"
	@$(PIP) install --constraint constraints.txt --group docs
	@touch $@

.venv-peers/.stamp: benchmarks/peers.txt
	@PYTHON="$(PYTHON)" sh .ci/venv.sh .venv-peers
	@.venv-peers/bin/python -m pip --disable-pip-version-check --quiet install --requirement benchmarks/peers.txt
	@touch $@

# These lists are complete, so nothing else is taken. An index without the CPU build of torch gets a second address
PIP_PEERS = .venv-peers-register/bin/python -m pip --disable-pip-version-check --quiet install --no-deps
.venv-peers-register/.stamp: benchmarks/peers-register.txt
	@PYTHON="$(PYTHON)" sh .ci/venv.sh .venv-peers-register
	@$(PIP_PEERS) --requirement benchmarks/peers-register.txt 2>/dev/null \
		|| $(PIP_PEERS) --extra-index-url $(TORCH_CPU) --requirement benchmarks/peers-register.txt
	@touch $@

.venv-peers-denoise/.stamp: benchmarks/peers-denoise.txt
	@PYTHON="$(PYTHON)" sh .ci/venv.sh .venv-peers-denoise
	@.venv-peers-denoise/bin/python -m pip --disable-pip-version-check --quiet install --no-deps \
		--requirement benchmarks/peers-denoise.txt
	@touch $@

.venv-peers-diffraction/.stamp: benchmarks/peers-diffraction.txt
	@PYTHON="$(PYTHON)" sh .ci/venv.sh .venv-peers-diffraction
	@.venv-peers-diffraction/bin/python -m pip --disable-pip-version-check --quiet install --no-deps \
		--requirement benchmarks/peers-diffraction.txt
	@touch $@

env: $(VENV)/.stamp-dev

peers: .venv-peers/.stamp .venv-peers-register/.stamp .venv-peers-denoise/.stamp .venv-peers-diffraction/.stamp

# ---------------------------------------------------------------- what a person runs

demo: $(VENV)/.stamp-run
	@$(BATCH) $(BIN)/fairstem tour -o "$(OUT)"

test: lint types layers tests

lint: $(VENV)/.stamp-dev
	@$(BIN)/ruff check $(CHECKED)
	@$(BIN)/ruff format --check $(CHECKED)

types: $(VENV)/.stamp-dev
	@$(BIN)/mypy

layers: $(VENV)/.stamp-dev
	@$(BIN)/lint-imports

tests: $(VENV)/.stamp-dev
	@$(BATCH) NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

format: $(VENV)/.stamp-dev
	@$(BIN)/ruff check --fix $(CHECKED)
	@$(BIN)/ruff format $(CHECKED)

bench: $(VENV)/.stamp-run
	@$(BATCH) NUMBA_NUM_THREADS=1 $(BIN)/python -m benchmarks $(TOPIC)

docs: $(VENV)/.stamp-docs
	@$(BATCH) $(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs docs/_build/html
	@echo "documentation: docs/_build/html/index.html"

clean:  ## everything that make made; never data or results
	rm -rf .venv .venv-peers .venv-peers-register .venv-peers-denoise .venv-peers-diffraction build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
