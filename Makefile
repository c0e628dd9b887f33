# One environment per orchestrator: their pins contradict each other (see requirements/*.in).
# Everything is built from hashed requirements by a uv that `make` installs itself.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
ENVS := core airflow prefect dagster
HOMES := airflow prefect dagster
home_airflow := airflow_provider
home_prefect := prefect_tasks
home_dagster := dagster_resources
tests_airflow := tests/airflow_provider
tests_prefect := tests/prefect_tasks
tests_dagster := tests/dagster_resources

TOOLS := .venvs/tools/bin
UV := $(TOOLS)/uv
export UV_LINK_MODE ?= copy
export UV_PYTHON_DOWNLOADS := never
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 18

# --- environments -----------------------------------------------------------------------------

.venvs/tools/.built: requirements/tools.txt
	@echo "building .venvs/tools"
	@$(PYTHON) -m venv --clear .venvs/tools
	@$(TOOLS)/pip install --quiet --require-hashes -r requirements/tools.txt
	@touch $@

.venvs/%/.built: requirements/%.txt pyproject.toml classifaily_connectors/_version.py .venvs/tools/.built
	@echo "building .venvs/$*"
	@test -x .venvs/$*/bin/python || $(UV) venv --quiet --python $(PYTHON) .venvs/$*
	@$(UV) pip sync --quiet --python .venvs/$* --require-hashes requirements/$*.txt
	@$(UV) pip install --quiet --python .venvs/$* --no-deps --build-constraints requirements/tools.txt -e .
	@touch $@

.PHONY: env-core env-airflow env-prefect env-dagster env-bench envs
env-core: .venvs/core/.built        ## .venvs/core: the core with sandbox, cli, store and frames
env-airflow: .venvs/airflow/.built  ## .venvs/airflow
env-prefect: .venvs/prefect/.built  ## .venvs/prefect
env-dagster: .venvs/dagster/.built  ## .venvs/dagster
env-bench: .venvs/bench/.built      ## .venvs/bench: the peers we measure ourselves against
envs: $(ENVS:%=.venvs/%/.built)

COMPILE = $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command 'make lock'

.PHONY: lock
lock:  ## pin and hash every environment anew
	@test -x $(UV) || ($(PYTHON) -m venv --clear .venvs/tools && $(TOOLS)/pip install --quiet uv)
	$(COMPILE) requirements/tools.in -o requirements/tools.txt
	$(COMPILE) pyproject.toml --extra sandbox --extra cli --extra store --extra webhooks --extra postgres --extra frames --extra excel --extra otel requirements/core.in requirements/test.in -o requirements/core.txt
	for home in $(HOMES); do \
	  $(COMPILE) pyproject.toml --extra $$home --extra sandbox --extra store --extra frames requirements/$$home.in requirements/test.in \
	    -o requirements/$$home.txt; done
	$(COMPILE) pyproject.toml --extra sandbox --extra store --extra postgres --extra frames requirements/bench.in requirements/test.in -o requirements/bench.txt

# --- checks -----------------------------------------------------------------------------------

.PHONY: lint types-core types-airflow types-prefect types-dagster check
lint: .venvs/tools/.built  ## ruff and the import laws
	$(TOOLS)/ruff check .
	$(TOOLS)/ruff format --check .
	PYTHONPATH=.:airflow_provider:prefect_tasks:dagster_resources $(TOOLS)/lint-imports

types-core: .venvs/core/.built  ## mypy and pyright, strict, on the core
	$(TOOLS)/mypy --python-executable .venvs/core/bin/python classifaily_connectors tests/typing
	$(TOOLS)/pyright --pythonpath .venvs/core/bin/python classifaily_connectors tests/typing

types-airflow types-prefect types-dagster: types-%: .venvs/%/.built
	$(TOOLS)/mypy --python-executable .venvs/$*/bin/python $(home_$*)
	$(TOOLS)/pyright --pythonpath .venvs/$*/bin/python $(home_$*)

REPORTS := build/reports
PYTEST = PATH="$(CURDIR)/.venvs/$(1)/bin:$$PATH" .venvs/$(1)/bin/python -m pytest -q -p no:cacheprovider

check: lint types-core  ## the quick half: lint, import laws, core types, core unit tests
	$(call PYTEST,core) tests/core -m "not slow"

.PHONY: test-core test-airflow test-prefect test-dagster test
test-core: .venvs/core/.built
	@mkdir -p $(REPORTS)
	$(call PYTEST,core) tests/core tests/faults --junitxml=$(REPORTS)/core.xml

test-airflow test-prefect test-dagster: test-%: .venvs/%/.built .venvs/core/.built
	@mkdir -p $(REPORTS)
	$(call PYTEST,$*) $(tests_$*) --junitxml=$(REPORTS)/$*.xml

test:  ## everything CI runs; ends with one line that counts every environment's tests
	@rm -rf $(REPORTS)
	@$(MAKE) --no-print-directory lint types-core $(HOMES:%=types-%)
	@status=0; for part in $(ENVS); do $(MAKE) --no-print-directory test-$$part || status=1; done; \
	 .venvs/core/bin/python tests/summary.py $(REPORTS) $(ENVS) || status=1; exit $$status

.PHONY: bench
bench: .venvs/bench/.built  ## our speed as ratios against named peers
	.venvs/bench/bin/python -m pytest -q -s -p no:cacheprovider tests/benchmarks

# --- to see it --------------------------------------------------------------------------------

ROWS ?=
INPUT ?= examples/data/support_tickets.csv
TEXT ?= body
LIVE ?=

.PHONY: demo
demo: envs  ## one table, labelled by Airflow, Prefect and Dagster: ROWS=, INPUT=path.csv TEXT=column, LIVE=1
	@.venvs/core/bin/python examples/demo/run.py --input "$(INPUT)" --text "$(TEXT)" --rows "$(ROWS)" $(if $(LIVE),--live)

.PHONY: airflow prefect dagster
airflow prefect dagster: %: .venvs/%/.built .venvs/core/.built  ## the platform's real UI on 127.0.0.1, our examples loaded, against the sandbox
	@.venvs/core/bin/python examples/demo/ui.py $@

.PHONY: clean
clean:  ## everything built, environments included
	rm -rf .venvs build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
