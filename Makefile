# `make demo` and `make test` install into .venv from requirements.lock (hash-pinned); nothing else is downloaded.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: venv demo test coverage test-heavy test-install lint format docs bench lock clean

venv: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name it with make PYTHON=/path/to/python3.11" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: $(STAMP)
	$(BIN)/avfr demo --output demo --overwrite

# A process a core, four at most (each compiles programs of its own); the longest files first, as tests/conftest.py
# orders them.
TESTS := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
test: $(STAMP)
	$(TESTS)

# The same with the coverage of avfr_jax as its last line; a fifth slower.
coverage: $(STAMP)
	$(TESTS) --cov --cov-report=
	@$(BIN)/python -m coverage report --format=total | sed 's/.*/line coverage of avfr_jax: & %/'

test-heavy: $(STAMP)
	$(BIN)/python -m pytest -m heavy

# The wheel in fresh environments, with each extra; downloads, and takes minutes.
test-install:
	tests/install/run.sh $(PYTHON)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site, in dist/docs; a warning is an error.
docs: $(STAMP)
	JAX_PLATFORMS=cpu $(BIN)/python -m sphinx -q -W --keep-going -b html docs dist/docs

bench: $(STAMP)
	$(BIN)/python -m benchmarks.run

# Needs uv on the PATH. The output names no package index.
lock:
	uv pip compile --python-version 3.11 --universal --generate-hashes --no-emit-index-url \
	  --override requirements/overrides.txt requirements/runtime.in requirements/dev.in -o requirements.lock

clean:
	rm -rf $(VENV) demo dist .coverage .hypothesis .pytest_cache .mypy_cache .ruff_cache docs/api
