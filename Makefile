# The commands of the README. `make setup` makes .venv for development, `make demo` needs the package alone.
PYTHON ?= python3
VENV := .venv
SPHINX := $(VENV)/bin/python -m sphinx -W --keep-going -n -q -d build/docs/doctrees
PIP := $(VENV)/bin/python -m pip install --quiet --constraint constraints.txt

.PHONY: demo test setup bench docs docs-links clean

setup: $(VENV)/.test

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.package: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/.test: $(VENV)/.package
	$(PIP) --editable '.[test]'
	touch $@

$(VENV)/.docs: $(VENV)/.package
	$(PIP) --editable '.[docs]'
	touch $@

demo: $(VENV)/.package
	rm -rf demo-run
	$(VENV)/bin/pointland demo --out demo-run

test: setup
	scripts/check

# the site, in build/docs/html; a warning is an error, nothing is fetched
docs: $(VENV)/.docs
	$(SPHINX) -b html docs build/docs/html
	@echo "Open build/docs/html/index.html"

# asks for every external address that the site links to
docs-links: $(VENV)/.docs
	$(SPHINX) -b linkcheck docs build/docs/links

bench: setup
	$(VENV)/bin/python benchmarks/shared_evaluations.py
	$(VENV)/bin/python benchmarks/derivatives.py
	$(VENV)/bin/python benchmarks/startup.py

clean:
	rm -rf $(VENV) demo-run build dist
