# Make targets. Requirements: python3.11 (with its venv module), make and git.
#
# PYTHON=...       another interpreter of version 3.11
# TORCH_INDEX=...  an extra package index for torch. The default build includes CUDA. Without a GPU,
#                  use the index that PyTorch's "Get Started" page gives for Pip and CPU: the
#                  download is then a tenth of the size. `stepfold doctor` shows the installed build.
# JOBS=...         processes of tests (2); a test on Ray takes up to two cores and 2 GB.
PYTHON ?= python3.11
TORCH_INDEX ?=

BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo demo-text smoke lint check test nightly faults bench schema docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/installed ## distil a teacher of handwritten digits into students of 8, 4, 2 and 1 steps
	$(BIN)/stepfold run flows/recipes/digits.yaml --profile infra/profiles/laptop.yaml --run-dir runs/digits

demo-text: .venv/installed ## train a small Stable Diffusion on captioned digits, distil it, export stock pipelines
	$(BIN)/stepfold run flows/recipes/captions.yaml --profile infra/profiles/laptop.yaml --run-dir runs/captions

smoke: .venv/installed-tests ## run the whole stack on Gaussian classes, against the closed form (2-3 minutes)
	$(BIN)/python -m pytest -m needs_ray tests/chains/test_smoke.py

lint: .venv/installed-tests ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# JOBS processes, each with the next file when it is done, in the order of tests/conftest.py
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=25

check: lint ## lint, and the quick tests: without Ray, a browser, and what is marked slow (2 minutes)
	$(PYTEST)

test: lint ## lint, and all tests but the nightly ones (NIGHTLY=1/8: with a part of those)
	$(PYTEST) $(if $(NIGHTLY),-m '' --shard $(NIGHTLY),-m 'not nightly')

nightly: .venv/installed-tests ## the tests that are too long for `test` (hours; SHARD=1/8 for a part)
	$(PYTEST) -m nightly $(if $(SHARD),--shard $(SHARD))

faults: .venv/installed-tests ## inject every fault: kills, full disks, damage (hours; resumes; SHARD=1/8 for a part)
	$(BIN)/python -m tests.faults $(if $(SHARD),--shard $(SHARD))

bench: .venv/installed-tests ## measure speed, memory and cost on this machine (half an hour)
	$(BIN)/python -m tests.benchmarks

schema: .venv/installed ## rewrite the JSON schemas of recipe and profile, after a key was added
	$(BIN)/stepfold schema recipe > flows/recipes/recipe.schema.json
	$(BIN)/stepfold schema profile > infra/profiles/profile.schema.json

# the module that holds the typer application, and the schemas behind docs/configuration.md
CLI := flows.cli.app
SCHEMAS := flows/recipes/recipe.schema.json infra/profiles/profile.schema.json

docs: .venv/installed ## rewrite docs/cli.md and docs/configuration.md, after a command, an option or a key changed
	$(BIN)/typer $(CLI) utils docs --name stepfold --output docs/cli.md
	$(BIN)/python -m pipeline.config.reference $(SCHEMAS) > docs/configuration.md

clean: ## remove the installation and the caches of tools; runs/ is kept
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info

# torch goes first, so that its build is chosen once and the rest is resolved around it
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch==2.13.0
	$(INSTALL) -e .
	touch $@

.venv/installed-tests: .venv/installed
	$(INSTALL) -e '.[test]'
	touch $@
