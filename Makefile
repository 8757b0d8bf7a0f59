# Each target does all set-up on a fresh machine; a second call is quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo

.PHONY: demo test test-ray check clean

demo: $(VENV)/.installed
	$(BIN)/urd demo --out $(OUT) --overwrite $(DEMO_OPTIONS)

test: check
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal $(TEST_OPTIONS)

# Ray has an environment of its own, which borrows the packages of the other one.
test-ray: $(VENV)-ray/.installed
	$(VENV)-ray/bin/python -m pytest --no-header -p no:xdist tests/on_ray $(TEST_OPTIONS)

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

$(VENV)-ray/.installed: $(VENV)/.installed
	$(PYTHON) -m venv $(VENV)-ray
	$(VENV)-ray/bin/python -m pip install --quiet 'ray[data]>=2.40'
	$(VENV)-ray/bin/python -c 'import pathlib, sysconfig; \
	  packages = sysconfig.get_paths()["purelib"]; \
	  other = packages.replace("$(VENV)-ray", "$(VENV)"); \
	  pathlib.Path(packages, "other.pth").write_text(f"import site; site.addsitedir({other!r})\n")'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-ray $(OUT) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
