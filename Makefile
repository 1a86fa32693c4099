# make demo [BAG=path] [OUT=out/demo]   a recording through the node, and a report; more options of
#                                       `proto-mtl demo` in DEMO_ARGS
# make test                             everything that is checked: style, types, tests
# make lint                             style and types alone
# make coverage, make mutation          what the tests run, and what they notice: figures for
#                                       docs/reliability.md; an hour together
#
# Each sets itself up: a virtual environment, filled from the dependencies in setup.py. Where ROS 2 is
# sourced that environment sees ROS's own packages; elsewhere ROS 2 comes as wheels (x86_64).
#
# PYTHON=python3.12   another interpreter
# For a torch without CUDA set PIP_EXTRA_INDEX_URL to PyTorch's CPU index.

PYTHON ?= python3
BAG ?= recordings/room
OUT ?= out/demo
DEMO_ARGS ?=
PYTEST_ARGS ?=

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
  INSTALL_TEST = $(PIP) -r requirements-robot.txt 'pytest<8' -e '.[test]'
else
  VENV := .venv
  VENV_OPTIONS :=
  INSTALL_DEMO = $(PIP) -e '.[demo,ros-wheels]'
  INSTALL_TEST = $(PIP) -e '.[demo,test,ros-wheels]'
  export AMENT_PREFIX_PATH := $(CURDIR)/$(VENV)
endif

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar off
DEPENDENCIES := setup.py setup.cfg pyproject.toml requirements-robot.txt

.PHONY: demo test lint coverage mutation clean

demo: $(VENV)/.demo
	$(BIN)/proto-mtl demo --recording "$(BAG)" --out "$(OUT)" $(DEMO_ARGS)

test: $(VENV)/.test lint
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

coverage mutation: $(VENV)/.test
	$(PIP) -e '.[check]'
	$(BIN)/python benchmark/reliability/measure_$@.py

clean:
	rm -rf .venv .venv-ros build dist *.egg-info

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

# torch first and alone: its exact version must be settled before anything asks for another.
$(VENV)/.test: $(VENV)/.created $(DEPENDENCIES)
	@echo "Installing what the tests need, torch first ..."
	@$(PIP) torch==2.13.0
	@$(INSTALL_TEST)
	@touch $@ $(VENV)/.demo
