# The commands of the README. `make setup` makes .venv; the others call it.
PYTHON ?= python3
VENV := .venv

.PHONY: demo test setup bench clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

demo: setup
	$(VENV)/bin/pointland demo --out demo-run

test: setup
	scripts/check

bench: setup
	$(VENV)/bin/python benchmarks/shared_evaluations.py

clean:
	rm -rf $(VENV) demo-run build dist
