# Every target sets up what it needs, in a virtual environment of its own.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo demo-check test test-fast test-servers test-programs peer-suites soak fuzz mutants bench bench-quick lint build clean

demo: $(READY)  ## the same answer three times, plain, batched and merged, on a page
	$(BIN)/python -m examples.demo

demo-check: $(READY)  ## the same, with a scripted client in place of the page
	$(BIN)/python -m examples.demo --check

test: $(READY)  ## all but the server matrix and the programs; some minutes
	$(BIN)/python -m pytest -n 2

# What is left out: folders that need real servers, tests that are marked `slow`, and most of the
# random schedules. tests/README.md says which folders these are, and a test compares the two.
test-fast: $(READY)  ## the loop to work in: under a minute on two cores
	SSE_BATCHING_EXAMPLES=10 $(BIN)/python -m pytest -n 2 -m "not slow" \
		tests/unit tests/behaviour tests/properties tests/merging tests/testing tests/docs tests/project

test-servers: $(READY)  ## every server, every way of leaving; finds what docs/servers.md says
	$(BIN)/python -m pytest -n 2 --dist loadgroup tests/servers/matrix

# Programs that need versions of their own: a virtual environment for each.
PROGRAMS := litellm gradio mcp1 fastmcp

test-programs: $(READY) $(PROGRAMS:%=.venv-programs/%/ready)  ## LiteLLM, gradio and others: docs/frameworks.md
	$(BIN)/python -m pytest -n 2 tests/programs

.venv-programs/%/ready: pyproject.toml
	$(PYTHON) -m venv .venv-programs/$*
	.venv-programs/$*/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	.venv-programs/$*/bin/python -m pip install --quiet --disable-pip-version-check --editable . --group $*
	@touch $@

peer-suites: $(READY)  ## Starlette's own tests, with the middleware around every app
	$(BIN)/python -m tests.peers.suites

soak: $(READY)  ## 20,000 streams through one worker, half of the clients leaving
	$(BIN)/python -m tests.soak --streams 20000

# SEED=1234 LOOP=trio explains one seed. SEEDS=20000 or MINUTES=10: how long to search.
fuzz: $(READY)  ## random requests on random schedules; five minutes
	$(BIN)/python -m tests.fuzz $(if $(LOOP),--loop $(LOOP)) $(if $(SEED),--seed $(SEED)) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(if $(MINUTES),--minutes $(MINUTES),$(if $(SEED)$(SEEDS),,--minutes 5))

mutants: $(READY)  ## break each rule of merging, and see a test fail: a quarter of an hour
	$(BIN)/python -m tests.merging.mutations

bench: $(READY)  ## all that is measured: three quarters of an hour, on a machine with nothing else to do
	$(BIN)/python -m benchmarks
	-$(BIN)/python -m benchmarks.merging  # needs recorded streams
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.cancellation
	$(BIN)/python -m benchmarks.instructions --write  # needs valgrind
	$(BIN)/python -m benchmarks.targets --write

bench-quick: $(READY)  ## one short round
	$(BIN)/python -m benchmarks --quick --output build/bench

lint: $(READY)  ## style, types, phrases, and which module imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/lint-imports --no-cache

build: $(READY)  ## the wheel, into dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) .venv-programs dist build

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or newer is needed; $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@
