# make run    serve the page on http://127.0.0.1:8050 (settings: make run ARGS="--port 8060")
# make test   every check, from a fresh clone; the browser tests need Chromium
# make test-long  what takes long: more seeds and hostile inputs, the coverage of error bars, networks of other packages
# make bench  the speed comparisons, printed as ratios (ARGS goes to surfaces, CURVATURE_ARGS to curvature)
# make audit  whether a vulnerability is known of what is pinned
# make lock   the lock files from the requirements, with as few changes as do (ARGS=--upgrade: the newest that fits)
# make clean  remove what the tools left behind (not the runs and results)

PYTHON ?= python3
BIN := .venv/bin
PIP := bin/python -m pip install --disable-pip-version-check
LOCKED := --no-deps --require-hashes

.PHONY: run test test-long bench audit lock clean .venv
.DELETE_ON_ERROR:

run: .venv/.ready
	@$(BIN)/python app.py $(ARGS)

test: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope $(ARGS)

test-long: .venv/.dev .venv-foreign/.ready
	LANDSCAPE_LONG=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadscope -m long -o timeout=3600 $(ARGS)
	$(BIN)/python benchmarks/coverage.py
	$(BIN)/python -m benchmarks.estimate
	LANDSCAPE_FOREIGN=1 .venv-foreign/bin/python -m pytest --confcutdir tests/foreign -o timeout=1200 tests/foreign

bench: .venv-bench/.ready
	.venv-bench/bin/python benchmarks/surface.py $(ARGS)
	.venv-bench/bin/python benchmarks/curvature.py $(CURVATURE_ARGS)
	.venv-bench/bin/python benchmarks/look.py

.venv: .venv/.ready

# The stamp is written last and taken away first, so an environment without one is unfinished and is made afresh.
# PyTorch comes last: what it needs is there by then, as locked, and its index adds only what it brings for CUDA.
.venv/.ready .venv-bench/.plain .venv-foreign/.plain: requirements.lock requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.11 ...")'
	@test -e $@ || rm -rf $(@D)
	@rm -f $@
	$(PYTHON) -m venv $(@D)
	$(@D)/$(PIP) $(LOCKED) -r requirements.lock
	$(@D)/$(PIP) $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") "$$(grep '^torch==' requirements.txt)"
	@touch $@

.venv/.dev: .venv/.ready requirements-dev.lock
	$(@D)/$(PIP) $(LOCKED) -r requirements-dev.lock
	@touch $@

.venv-bench/.ready: .venv-bench/.plain benchmarks/requirements.txt
	$(@D)/$(PIP) -r benchmarks/requirements.txt
	@touch $@

# Without what they require: another PyTorch would come along.
.venv-foreign/.ready: .venv-foreign/.plain tests/foreign/requirements.txt
	$(@D)/$(PIP) --no-deps -r tests/foreign/requirements.txt
	@touch $@

audit: .venv/.dev
	@.ci/audit

# PyTorch, and what it brings only for CUDA, are the business of the index that has the build for the machine.
CUDA := cuda-bindings cuda-toolkit nvidia-cudnn-cu13 nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvshmem-cu13 triton
LOCK := printf '%s\n' $(CUDA) | $(BIN)/uv pip compile --excludes /dev/stdin --no-emit-package torch \
	--universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	--annotation-style line --custom-compile-command 'make lock' --quiet $(ARGS)

# The tools' lock holds what the program's has not, so that a container goes without them.
lock: .venv/.dev
	$(LOCK) --output-file requirements.lock requirements.txt
	$(LOCK) --output-file requirements-dev.lock --constraints requirements.lock --no-emit-package pip \
		$$(sed -n 's/^\([a-z0-9.-]*\)==.*/--no-emit-package \1/p' requirements.lock) requirements-dev.txt

clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis test-results
	find . -name __pycache__ -not -path './.venv*/*' -prune -exec rm -rf {} +
