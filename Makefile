# Each target does all set-up on a fresh machine; a second call is quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo
# PyTorch's CPU build: make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

.PHONY: demo test test-ray check docs clean

demo: $(VENV)/.base
	$(BIN)/urd demo --out $(OUT) --overwrite $(DEMO_OPTIONS)

test: check
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal $(TEST_OPTIONS)

# Ray has an environment of its own, which borrows the packages of the other one.
test-ray: $(VENV)-ray/.installed
	$(VENV)-ray/bin/python -m pytest --no-header -p no:xdist tests/on_ray $(TEST_OPTIONS)

check: $(VENV)/.installed
	$(BIN)/ruff check src tests benchmarks pretraining docs notebooks
	$(BIN)/ruff format --check src tests benchmarks pretraining docs notebooks
	$(BIN)/mypy

# What the demo needs, and nothing else; tests and documents add to it.
$(VENV)/.base: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@echo "Installing into $(VENV): the first time it takes some minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet torch torchvision --index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

$(VENV)/.docs: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

$(VENV)-ray/.installed: $(VENV)/.installed
	$(PYTHON) -m venv $(VENV)-ray
	$(VENV)-ray/bin/python -m pip install --quiet 'ray[data]>=2.40'
	$(VENV)-ray/bin/python -c 'import pathlib, sysconfig; \
	  packages = sysconfig.get_paths()["purelib"]; \
	  other = packages.replace("$(VENV)-ray", "$(VENV)"); \
	  pathlib.Path(packages, "other.pth").write_text(f"import site; site.addsitedir({other!r})\n")'
	touch $@

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -W -n --keep-going -b html docs build/docs
	@echo "Open build/docs/index.html"

clean:
	rm -rf $(VENV) $(VENV)-ray $(OUT) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
