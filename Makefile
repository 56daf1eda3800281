# `make run` and `make test` need Python 3.11 and nothing else; `make services` needs apt and root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
HOST ?= 127.0.0.1
DEMO ?= 1
# Tests wait for browsers and servers a good deal: three processes keep two cores busy.
WORKERS ?= 3
# Tests marked slow run with SLOW=1, as in CI.
SLOW ?= 0
# Which form of the load test runs.
FORM ?= short
# Where `make faults` writes its table and `make load` its section, if anywhere.
REPORT ?=
# What `make bench` runs, in this order.
BENCHES ?= bench bench.commands bench.growth bench.clickhouse_states bench.serving bench.beside
# How long `make fuzz` goes on.
FUZZ_SECONDS ?= 60
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help run test test-postgres faults fuzz lint services bench load report notebook requirements clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)

# Runtime and embedded sets run the product; the development set joins for checks and tests.
$(STAMP)-run: requirements.txt requirements-embedded.txt | $(VENV)/bin/python
	@echo "installing packages (once)"
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.txt -r requirements-embedded.txt
	@touch $@

$(STAMP)-dev: requirements-dev.txt requirements-otel.txt $(STAMP)-run
	@echo "installing development packages (once)"
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.txt -r requirements-otel.txt
	@touch $@

run: $(STAMP)-run ## Start everything with demo data (PORT=8000, DEMO=0 for an empty catalogue)
	@exec $(BIN)/python -m config.embedded --host $(HOST) --port $(PORT) $(if $(filter 1,$(DEMO)),--demo)

test: $(STAMP)-dev ## Run the suite (SLOW=1: the slow tests, and those of the database on PostgreSQL too); what needs servers is skipped unless `make services` ran
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --ignore tests/faults --ignore tests/abuse $(if $(filter 1,$(SLOW)),,-m "not slow") $(ARGS)
	@$(if $(filter 1,$(SLOW)),$(MAKE) --no-print-directory test-postgres WORKERS=$(WORKERS),echo "left out: slow tests, and PostgreSQL under those of the database (make test SLOW=1)")

test-postgres: $(STAMP)-dev ## Run the database-bound tests on PostgreSQL too
	WORKERS=$(WORKERS) $(BIN)/python -m tests.on_postgres

# They time what servers of their own do: no more of them at once than cores.
faults: WORKERS = 2
faults: $(STAMP)-dev ## Break servers and processes under the product; prints one table (REPORT=docs/reports/faults.md writes it)
	FAULT_REPORT=$(REPORT) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests/faults tests/abuse tests/flows/test_isolation.py $(ARGS)

lint: $(STAMP)-dev ## Style, types, templates, import arrows, migrations, deployment checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/djlint templates --check --lint --quiet
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python -m tests.check_deploy

services: ## Install the servers and the browser that tests use (Debian, root)
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		clickhouse-server clickhouse-client postgresql redis-server chromium-headless-shell zookeeper default-jre-headless faketime \
		prometheus nginx-light systemd jq wrk hyperfine >/dev/null

$(STAMP)-fuzz: requirements-fuzz.txt $(STAMP)-dev
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-fuzz.txt
	@touch $@

fuzz: $(STAMP)-fuzz ## Fuzz ingest guided by coverage, for a minute (FUZZ_SECONDS=60; Linux on x86-64)
	$(BIN)/python -m tests.abuse.fuzz -max_total_time=$(FUZZ_SECONDS) $(ARGS)

bench: $(STAMP)-dev ## Measure everything, about an hour (BENCHES="bench bench.serving": some; bench/README.md says what each is)
	@failed=0; for one in $(BENCHES); do echo "== python -m $$one"; $(BIN)/python -m $$one || failed=1; done; exit $$failed

load: $(STAMP)-dev ## Load the product on real servers and count what it keeps (FORM=short, rate, soak, cold, compare, all)
	@$(BIN)/python -m load --form $(FORM) $(if $(REPORT),--report $(REPORT)) $(ARGS)

report: $(STAMP)-run ## Run the demo's load with the flag off, then on; writes docs/reports/cost-performance.md (ARGS=--help)
	@$(BIN)/python -m demo.report $(ARGS)

notebook: $(STAMP)-dev ## Run notebooks/cost_success_analysis.ipynb again, in place
	$(BIN)/python -m notebooks

requirements: $(STAMP)-dev ## Resolve the pinned requirements files again from the .in files
	for set in "" -embedded -dev -otel -fuzz; do \
		$(BIN)/uv pip compile -q --generate-hashes --no-header requirements$$set.in -o requirements$$set.txt || exit 1; \
	done

clean: ## Delete the demo's data (not the virtual environment)
	rm -rf var
