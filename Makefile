# Two commands: `make demo` sets up and runs the main job, `make test` sets up and runs all checks.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint types layers unit slow docs clean

demo: $(VENV)/.demo
	$(BIN)/foretune demo $(ARGS)

test: $(VENV)/.test lint types layers unit

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "foretune needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) torch -e ".[all]"
	touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) torch -e ".[test]"
	touch $@

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

layers: $(VENV)/.test
	$(BIN)/lint-imports

unit: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow

docs: $(VENV)/.test
	$(PIP) -e ".[docs]"
	$(BIN)/python docs/build.py
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) site build dist
