# Each target does all set-up on a fresh machine; a second call is quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo

.PHONY: demo test check clean

demo: $(VENV)/.installed
	$(BIN)/urd demo --out $(OUT) --overwrite $(DEMO_OPTIONS)

test: check
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal $(TEST_OPTIONS)

check: $(VENV)/.installed
	$(BIN)/ruff check src tests benchmarks pretraining
	$(BIN)/ruff format --check src tests benchmarks pretraining
	$(BIN)/mypy

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(OUT) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
