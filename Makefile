# make run    serve the page on http://127.0.0.1:8050 (settings: make run ARGS="--port 8060")
# make test   every check, from a fresh clone; the browser tests need Chromium
# make test-long  what takes long: more seeds and hostile inputs, the coverage of error bars, networks of other packages
# make bench  the speed comparisons, printed as ratios (ARGS goes to surfaces, CURVATURE_ARGS to curvature)
# make clean  remove what the tools left behind (not the runs and results)

PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test test-long bench clean .venv
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
define environment
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.11 ...")'
@test -e $@ || rm -rf $(@D)
@rm -f $@
$(PYTHON) -m venv $(@D)
$(@D)/bin/python -m pip install --disable-pip-version-check -r $<
@touch $@
endef

.venv/.ready: requirements.txt
	$(environment)

.venv-bench/.ready: benchmarks/requirements.txt requirements.txt
	$(environment)

.venv-foreign/.plain: requirements.txt
	$(environment)

# Without what they require: another PyTorch would come along.
.venv-foreign/.ready: .venv-foreign/.plain tests/foreign/requirements.txt
	.venv-foreign/bin/python -m pip install --disable-pip-version-check --no-deps -r tests/foreign/requirements.txt
	@touch $@

.venv/.dev: .venv/.ready requirements-dev.txt
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-dev.txt
	@touch $@

clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis test-results
	find . -name __pycache__ -not -path './.venv*/*' -prune -exec rm -rf {} +
