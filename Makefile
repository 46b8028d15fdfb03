# Everything that is run on this project. `make help` lists it; a first `make demo` needs only Python 3.11 and make.

SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
SCRIPTS := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN := $(VENV)/$(SCRIPTS)
PIP_INSTALL = $(SCRIPTS)/python -m pip --disable-pip-version-check install -qq --no-compile
LOCKED = $(VENV)/$(PIP_INSTALL) --require-hashes
install_into = $(1)/$(PIP_INSTALL) -c constraints.txt

export PYTHONWARNINGS =
export PYTHONDONTWRITEBYTECODE =
export PYRIGHT_PYTHON_IGNORE_WARNINGS = 1

.DELETE_ON_ERROR:
.PHONY: help demo docs docs-links test test-docs test-torture torture torture-fast test-real test-integrations test-vision \
	museum check-peers \
	test-oldest test-newest versions package lint types format lock sbom bench bench-peers clean
.DEFAULT_GOAL := help

help:  ## list these targets
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1	\2/p' $(MAKEFILE_LIST) | expand -t 12

# -- the environment: made once, and again when what it is made from changes --------------------------------------------

$(VENV)/pyvenv.cfg:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: install Python 3.11, or give PYTHON=..." >&2; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# PyTorch by itself: its own build for a CPU where an index in use offers it (PyPI does not), else PyPI's, which for Linux is for
# NVIDIA's GPUs and needs their libraries
TORCH = $(LOCKED) --no-deps -r requirements/torch
NEEDS_CUDA = grep -qE "^Requires-Dist: (nvidia|cuda)" $(VENV)/lib/python3*/site-packages/torch-*.dist-info/METADATA
.make/lab: $(VENV)/pyvenv.cfg pyproject.toml $(addprefix requirements/,torch-cpu.lock torch.lock cuda.lock lab.lock)
	@mkdir -p .make
	@echo "installing what vicinal needs"
	@$(LOCKED) -r requirements/lab.lock
	@echo "installing PyTorch"
	@$(TORCH)-cpu.lock 2>.make/torch-cpu.log || { grep -q "No matching distribution" .make/torch-cpu.log && $(TORCH).lock; } || \
		{ cat .make/torch-cpu.log; exit 1; }
	@if $(NEEDS_CUDA); then echo "installing NVIDIA's libraries" && $(LOCKED) -r requirements/cuda.lock; fi
	@$(VENV)/$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

.make/dev: .make/lab requirements/dev.lock
	@echo "installing the tools of the checks"
	@$(LOCKED) -r requirements/dev.lock
	@touch $@

# uv resolves, in an environment of its own; nothing else uses it
lock:  ## lock the versions and hashes of what pyproject.toml asks for (UPGRADE=--upgrade: the newest); needs the network
	@test -d .venv-lock || { $(PYTHON) -m venv .venv-lock && .venv-lock/$(PIP_INSTALL) uv; }
	@.venv-lock/bin/python requirements/lock.py $(UPGRADE)

# -- for everybody ------------------------------------------------------------------------------------------------------

demo: .make/lab  ## does mixup help on iris and on digits? two reports in ./demo, in about a minute
	@rm -rf demo/iris demo/digits
	@for data in iris digits; do $(BIN)/vicinal compare $$data --out demo/$$data && echo || exit; done
	@echo "Two pages to read in a browser:"
	@for data in iris digits; do echo "  file://$(CURDIR)/demo/$$data/report.html"; done

# -- for work on the project --------------------------------------------------------------------------------------------

# two test processes, each with one thread for PyTorch: more threads than cores only wait for one another
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --ignore=tests/stacks --ignore=tests/vision \
	--ignore=tests/docs

test: lint types  ## format, lint, types, spelling, and all tests but those of the targets below
	@$(PYTEST) -m "not torture and not real"

# conf.py reads GALLERY; the site's source, as Sphinx reads it, is in build/docs-work
docs: .make/dev  ## the site of the documentation into build/docs, checked (GALLERY=off: without running the gallery's scripts)
	@OMP_NUM_THREADS=1 GALLERY=$(GALLERY) $(BIN)/python docs/_ext/build.py

docs-links: .make/dev  ## ask for each address elsewhere that the documentation links to; needs the network
	@OMP_NUM_THREADS=1 GALLERY=off $(BIN)/python docs/_ext/build.py --elsewhere

test-docs: .make/dev  ## only the tests of the site, in a browser: on a desktop and a phone, light and dark
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/docs

test-torture: .make/dev  ## only the tests that kill and interrupt commands, start many processes or compute for long
	@$(PYTEST) -m torture

torture: .make/dev  ## what real machines and real data do to vicinal, done on purpose and counted: 20 minutes
	@$(BIN)/python -m torture

torture-fast: .make/dev  ## the same in five minutes
	@$(BIN)/python -m torture --seconds 300

test-real: .make/dev  ## only the tests on published datasets, from the folder that VICINAL_DATA names
	@$(PYTEST) -m real

# environments that add to the first one, and leave it as it is
SITE = $(patsubst $(VENV)/%,%,$(wildcard $(VENV)/lib/python3*/site-packages))
define add_to_first
	@$(PYTHON) -m venv $(1)
	@printf '%s\n' "$(CURDIR)/$(VENV)/$(SITE)" "$(CURDIR)/src" > $(1)/$(SITE)/project.pth
endef

STACKS := .venv-stacks
.make/stacks: .make/dev
	$(call add_to_first,$(STACKS))
	@echo "installing what people train with"
	@$(call install_into,$(STACKS)) \
		transformers accelerate lightning skorch tensordict "jsonargparse[signatures]" keras pytorch-ignite "ray[train]" \
		optuna webdataset albumentations lightgbm
	@touch $@

test-integrations: .make/stacks  ## only the tests with Hugging Face, Lightning, TensorDict and others (fetches 500 MB)
	@OMP_NUM_THREADS=1 $(STACKS)/bin/python -m pytest -o filterwarnings=default tests/stacks

# another one, for what needs torchvision: its wheel asks for a PyTorch of its own, so that it and those that ask for it come
# without their requirements, after what else fastai and timm need
VISION := .venv-vision
.make/vision: .make/dev
	$(call add_to_first,$(VISION))
	@echo "installing torchvision, timm and fastai"
	@$(call install_into,$(VISION)) fastdownload fastcore fasttransform fastprogress plum-dispatch cloudpickle huggingface_hub
	@$(call install_into,$(VISION)) --no-deps torchvision timm fastai
	@touch $@

test-vision: .make/vision  ## only the tests with timm, torchvision and fastai (fetches 30 MB)
	@OMP_NUM_THREADS=1 $(VISION)/bin/python -m pytest -o filterwarnings=default tests/vision

museum: .make/dev  ## what `vicinal check` finds in 98 historical mistakes and 50 correct pipelines (JOBS=2: two at once)
	@$(BIN)/python -m museum --jobs $(or $(JOBS),1)

# what `vicinal check` is run on beside ours: some ask for a PyTorch of their own, and come without their requirements
CHECK := .venv-check
.make/check-peers: .make/dev
	$(call add_to_first,$(CHECK))
	@echo "installing the packages of the field"
	@$(call install_into,$(CHECK)) \
		kornia==0.9.0 kornia_rs==0.2.0 monai==1.6.1 keras==3.15.1 mixup==0.2.2 lightning==2.6.6 transformers accelerate \
		skorch einops seaborn mlxops-utils==0.4.0 gco-wrapper opencv-contrib-python-headless==4.13.0.92 julius primePy \
		fastdownload fastcore fasttransform fastprogress plum-dispatch cloudpickle huggingface_hub
	@$(call install_into,$(CHECK)) --no-deps torchvision timm fastai torch-uncertainty==0.13.0 torch-audiomentations==0.12.0 \
		torch_pitch_shift==1.2.5 torchaudio==2.11.1 mlxops-aug==0.2.3 mlxops-xai==0.4.0
	@# torchaudio's extension is built for CUDA and does not load here; without its files torchaudio goes on without it
	@rm -f $(CHECK)/$(SITE)/torchaudio/lib/*.so
	@touch $@

check-peers: .make/check-peers  ## what `vicinal check` finds in the packages of the field, and in ours
	@$(CHECK)/bin/python -m museum.peers

# environments of their own, with the oldest versions that pyproject.toml allows and with the newest that there are; PyTorch is
# what an index in use offers, which on PyPI is the build for NVIDIA's GPUs, of several GB
define with_tests
	@$(2) -m venv --clear $(1)
	@$(1)/$(PIP_INSTALL) --upgrade pip
	@$(1)/$(PIP_INSTALL) $(3) -e . --group test
	@mkdir -p .make && touch $@
endef
MATRIX = OMP_NUM_THREADS=1 $(1)/$(SCRIPTS)/python requirements/matrix.py run library compiled check lab

OLDEST := .venv-oldest
.make/oldest: pyproject.toml requirements/oldest.py
	@mkdir -p .make && $(PYTHON) requirements/oldest.py > .make/oldest.txt
	@echo "installing the oldest versions"
	$(call with_tests,$(OLDEST),$(PYTHON),-c .make/oldest.txt)

test-oldest: .make/oldest  ## the tests under the oldest versions that are allowed, into results/versions (fetches 3 GB)
	@$(call MATRIX,$(OLDEST))

NEWEST := .venv-newest
NEWEST_PYTHON ?= $(shell for minor in 14 13 12 11; do python3.$$minor -c "" 2>/dev/null && echo python3.$$minor && break; done)
.make/newest: pyproject.toml
	@echo "installing the newest versions for $(NEWEST_PYTHON)"
	$(call with_tests,$(NEWEST),$(NEWEST_PYTHON),)

test-newest: .make/newest  ## the tests under the newest versions, for NEWEST_PYTHON, into results/versions (fetches 3 GB)
	@$(call MATRIX,$(NEWEST))

versions: .make/dev  ## the table of docs/development/versions.md, from results/versions
	@$(BIN)/python requirements/matrix.py table

package: .make/dev  ## the wheel and the sdist: looked into, installed into clean environments, and run
	@$(BIN)/python requirements/package.py

lint: .make/dev  ## format, lint and spelling, nothing changed
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/codespell src tests docs bench examples museum requirements torture *.md Makefile pyproject.toml

types: .make/dev  ## static types
	@$(BIN)/pyright --warnings

format: .make/dev  ## put the code into its format, and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

sbom: .make/dev  ## the wheel into ./dist, with the list of what it is made of and needs, and the table of licenses
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || echo 315532800) \
		$(BIN)/python -m hatchling build -t wheel -d dist
	@$(BIN)/python requirements/sbom.py dist/*.whl

bench: .make/dev  ## every measurement of a CPU under bench/, and their page; those of a GPU: bench/gpu/__init__.py
	@for name in mixing vicinities loss step fleet decode loop page; do $(BIN)/python -m bench.$$name || exit; done

# glibc gives large blocks back to the system and pays for their pages again; told to keep them, all candidates are faster
KEEP = MALLOC_MMAP_THRESHOLD_=4294967295 MALLOC_TRIM_THRESHOLD_=34359738368 MALLOC_TOP_PAD_=1073741824
PEERS ?= .venv-peers

bench-peers:  ## mixing beside timm, torchvision and kornia from their own packages, in an environment of several GB
	@test -d $(PEERS) || { $(PYTHON) -m venv $(PEERS) && $(PEERS)/bin/python -m pip install -q torch torchvision timm kornia; }
	@PYTHONPATH=src $(PEERS)/bin/python -m bench.mixing
	@PYTHONPATH=src $(KEEP) $(PEERS)/bin/python -m bench.mixing

clean:  ## remove what these targets made, the environment included
	rm -rf $(VENV) .venv-peers .venv-stacks .venv-vision .venv-check .venv-lock .venv-oldest .venv-newest .make demo build dist .pytest_cache .ruff_cache .hypothesis
	find src tests examples bench museum torture requirements -name __pycache__ -prune -exec rm -rf {} +
