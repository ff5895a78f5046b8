# make demo   sets up what it needs, then runs the main job on rendered videos (eight minutes)
# make test   sets up what it needs, then runs the linter and all tests
SHELL := bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
RUN := $(VENV)/bin/python
DEMO_DIR ?= demo
# A test is a process of one core or so; each takes a gigabyte.
PYTEST := $(RUN) -m pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal

.PHONY: help demo demo-short test test-fast lint format lock clean

help:
	@grep -E '^# make' Makefile | cut -c3-
	@echo 'make test-fast   the tests that take seconds'
	@echo 'make lint | format | lock | clean   as their names say'

# The file is made last, so that an interrupted installation is not taken for a whole one.
$(VENV)/installed: requirements.lock setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "error: Python 3.11 is needed: make PYTHON=/path/to/python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(VENV)/installed
	$(RUN) -m pipeline.run --flagfile=configs/demo.flags --output=$(DEMO_DIR)

# The same job, a few clips and epochs of it: does every step work? Its accuracies mean nothing.
demo-short: $(VENV)/installed
	$(RUN) -m pipeline.run --flagfile=configs/demo_short.flags --output=$(DEMO_DIR)-short

test: lint
	$(PYTEST)

test-fast: $(VENV)/installed
	$(PYTEST) -m 'not slow'

lint: $(VENV)/installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(VENV)/installed
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

# Pins the newest versions that setup.py allows, with hashes and without the name of any index.
PIN := .lock/bin/uv pip compile setup.py --extra=remote --extra=dask --python-version=3.11 --generate-hashes --no-header \
  --no-annotate --no-emit-index-url --quiet
lock:
	$(PYTHON) -m venv .lock
	.lock/bin/pip install --quiet 'uv>=0.5'
	$(PIN) --extra=dev --output-file=.lock/all.txt
	(echo '# Every dependency, pinned with hashes, for Python 3.11. Made from setup.py by `make lock`.'; \
	  cat .lock/all.txt) > requirements.lock
	$(PIN) --extra=gcp --constraints=.lock/all.txt --output-file=.lock/container.txt
	(echo '# The part of requirements.lock that a container goes without. Made from setup.py by `make lock`.'; \
	  grep -vxFf .lock/container.txt .lock/all.txt) > requirements-dev.lock
	(echo '# What the extra gcp adds to requirements.lock, pinned with hashes. Made from setup.py by `make lock`.'; \
	  grep -vxFf .lock/all.txt .lock/container.txt) > requirements-gcp.lock

clean:
	rm -rf $(VENV) .lock *.egg-info
