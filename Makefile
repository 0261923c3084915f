# The commands of the README. `make setup` makes .venv for development, `make demo` needs the package alone.
PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --constraint constraints.txt

.PHONY: demo test setup bench clean

setup: $(VENV)/.test

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.package: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/.test: $(VENV)/.package
	$(PIP) --editable '.[test]'
	touch $@

demo: $(VENV)/.package
	rm -rf demo-run
	$(VENV)/bin/pointland demo --out demo-run

test: setup
	scripts/check

bench: setup
	$(VENV)/bin/python benchmarks/shared_evaluations.py
	$(VENV)/bin/python benchmarks/derivatives.py
	$(VENV)/bin/python benchmarks/startup.py

clean:
	rm -rf $(VENV) demo-run build dist
