# make demo [BAG=path] [OUT=out/demo]   a recording through the node, and a report
# make test                             style, types, import rules, and the tests of the default tier
# make test-all                         the same with all tests: trainings to the end, kills, faults
# make walks                            from photos, a recording, a folder to a model: an hour
# make lint                             style, types and import rules alone
# make lock [LOCK_ARGS=--upgrade]       requirements/*.txt anew from setup.py; --upgrade: newest versions
# make audit                            what is pinned there, looked up among known vulnerabilities
# make licences                         tools/licences.md anew from what `make test` has installed
# make coverage, make mutation          what the tests run, and what they notice: figures for
#                                       tools/reliability/README.md; an hour together
#
# Each sets itself up: a virtual environment. On Linux x86_64 with Python 3.11 it is filled from
# requirements/*.txt, where every version is pinned and every file's hash is checked; elsewhere from the
# ranges in setup.py. Where ROS 2 is sourced that environment sees ROS's own packages; elsewhere ROS 2
# comes as wheels (x86_64).
#
# PYTHON=python3.12   another interpreter
# LOCKED=no           the ranges of setup.py where the pins would be taken
# For a torch without CUDA set PIP_EXTRA_INDEX_URL to PyTorch's CPU index.

PYTHON ?= python3
BAG ?= recordings/room
OUT ?= out/demo
PYTEST_ARGS ?=
LOCK_ARGS ?=

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

# ROS 2 counts as sourced when the interpreter can really import it.
ifneq ($(and $(AMENT_PREFIX_PATH),$(ROS_DISTRO)),)
  ROS_SOURCED := $(shell $(PYTHON) -c 'import rclpy' 2>/dev/null && echo yes)
  ifneq ($(ROS_SOURCED),yes)
    $(error ROS 2 is sourced, but '$(PYTHON)' cannot import rclpy: make PYTHON=/usr/bin/python3, \
      or use a shell in which ROS is not sourced)
  endif
endif

ifeq ($(ROS_SOURCED),yes)
  VENV := .venv-ros
  VENV_OPTIONS := --system-site-packages
  # --no-deps below: what apt installed must not be shadowed by other versions from PyPI.
  INSTALL_DEMO = $(PIP) -r requirements-robot.txt && $(PIP) --no-deps -e .
  # ROS's own pytest plugins do not load in pytest 8.
  INSTALL_TEST = $(PIP) $(TORCH) && $(PIP) -r requirements-robot.txt 'pytest<8' -e '.[test]'
else
  VENV := .venv
  VENV_OPTIONS :=
  LOCKED ?= $(shell [ "$$(uname -sm)" = "Linux x86_64" ] && $(PYTHON) -c \
    'import sys; print("yes" if sys.implementation.name == "cpython" and sys.version_info[:2] == (3, 11) else "")' \
    2>/dev/null)
  ifeq ($(LOCKED),yes)
    INSTALL_DEMO = $(call INSTALL_LOCKED,demo) && $(INSTALL_PACKAGE)
    INSTALL_TEST = $(call INSTALL_LOCKED,test) && $(PIP) $(TORCH) && $(INSTALL_PACKAGE)
  else
    INSTALL_DEMO = $(PIP) -e '.[demo,ros-wheels]'
    INSTALL_TEST = $(PIP) $(TORCH) && $(PIP) -e '.[demo,test,ros-wheels]'
  endif
  export AMENT_PREFIX_PATH := $(CURDIR)/$(VENV)
endif

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar off
DEPENDENCIES := setup.py setup.cfg pyproject.toml requirements-robot.txt $(wildcard requirements/*.txt)

# torch has no hash: one version has other files on PyPI (CUDA) than on PyTorch's CPU index, and either
# is fine. So it and what only it needs (CUDA's libraries) are left out of requirements/*.txt. Alone: its
# exact version must be settled before anything asks for another.
TORCH := torch==2.13.0

# Three of the packages exist as source only, and ours is built here: by the setuptools that is pinned,
# not by one that pip would fetch for the purpose.
BUILD := --no-deps --no-build-isolation --use-pep517
INSTALL_LOCKED = $(PIP) --require-hashes -r requirements/build.txt \
  && $(PIP) $(BUILD) --require-hashes -r requirements/$(1).txt
INSTALL_PACKAGE = $(PIP) $(BUILD) -e .

# The tools of `make lock` and `make audit` have an environment of their own.
TOOLS := .venv-tools
UV := $(TOOLS)/bin/uv
LOCK := $(UV) pip compile --quiet --generate-hashes --no-annotate --python-version 3.11 \
  --python-platform x86_64-manylinux_2_28 --custom-compile-command 'make lock' $(LOCK_ARGS)

AUDIT := $(TOOLS)/bin/pip-audit --strict --disable-pip --progress-spinner off

# A worker for each core; a file of tests stays in one worker, as its tests share processes.
PYTEST = $(BIN)/python -m pytest -n auto --dist loadfile

.PHONY: demo test test-all walks lint lock audit licences coverage mutation clean

demo: $(VENV)/.demo
	$(BIN)/proto-mtl demo --recording "$(BAG)" --out "$(OUT)"

test: $(VENV)/.test lint
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-all: $(VENV)/.test lint
	$(PYTEST) $(PYTEST_ARGS)

walks: $(VENV)/.test
	PROTO_MTL_WALKS=out/walks OMP_NUM_THREADS=2 $(BIN)/python -m pytest -s test/training/test_walks.py $(PYTEST_ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

# The demo's pins are those of the tests, as both use one environment.
lock: $(TOOLS)/.created
	echo torch > $(TOOLS)/excludes.txt
	$(LOCK) setup.py --extra demo --extra test --extra ros-wheels --excludes $(TOOLS)/excludes.txt \
	  --output-file requirements/test.txt
	$(LOCK) setup.py --extra demo --extra ros-wheels --constraints requirements/test.txt \
	  --output-file requirements/demo.txt
	echo setuptools | $(LOCK) - --constraints requirements/test.txt --output-file requirements/build.txt

audit: $(TOOLS)/.created
	@echo $(TORCH) > $(TOOLS)/torch.txt
	@failed=; \
	$(AUDIT) --require-hashes -r requirements/test.txt -r requirements/demo.txt || failed=yes; \
	$(AUDIT) --no-deps -r $(TOOLS)/torch.txt || failed=yes; \
	[ -z "$$failed" ] || { echo "make audit: not clean. What is known is listed above; where it says 'could not be" \
	  "audited' or that a connection failed, the database was not reached and nothing is known" >&2; exit 1; }

licences: $(VENV)/.test
	$(BIN)/python -m tools.licences --requirements requirements-robot.txt --markdown > tools/licences.md.new
	mv tools/licences.md.new tools/licences.md

coverage mutation: $(VENV)/.test
	$(PIP) -e '.[check]'
	$(BIN)/python -m tools.reliability.measure_$@

clean:
	rm -rf .venv .venv-ros .venv-tools build dist *.egg-info

# Stamps: written last, so that an interrupted set-up is done again.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "Python 3.10 or newer is needed, and '$(PYTHON)' is not: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; \
	  exit 1; }
ifneq ($(ROS_SOURCED),yes)
	@[ "$$(uname -sm)" = "Linux x86_64" ] || { \
	  echo "ROS 2 exists as wheels for Linux x86_64 only: source ROS 2 first (. /opt/ros/<distro>/setup.bash)" >&2; \
	  exit 1; }
endif
	@echo "Setting up $(VENV) ..."
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV_OPTIONS) $(VENV) || { \
	  echo "'$(PYTHON) -m venv' failed: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.demo: $(VENV)/.created $(DEPENDENCIES)
	@echo "Installing what the demo needs ..."
	@$(INSTALL_DEMO)
	@touch $@

$(VENV)/.test: $(VENV)/.created $(DEPENDENCIES)
	@echo "Installing what the tests need ..."
	@$(INSTALL_TEST)
	@touch $@ $(VENV)/.demo

$(TOOLS)/.created: Makefile
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9 pip-audit==2.10.1
	@touch $@
