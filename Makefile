# make demo and make test do all set-up on a machine with python3, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DBT := .venv-dbt

.PHONY: demo test test-random test-page test-clients test-orchestrators test-dbt torture bench lint types check docs clean
ORCHESTRATORS := airflow dagster prefect

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $@

demo: $(VENV)/installed ## The demo shop against the local Braze: sync, sync again, change one customer, sync
	rm -rf .retl/sandbox warehouse.duckdb
	$(BIN)/retl seed
	$(BIN)/retl sync users_track
	$(BIN)/retl sync users_track
	$(BIN)/python -c "import duckdb; duckdb.connect('warehouse.duckdb').execute(\"update raw_customers set tier = 'gold' where customer_id = 'c-1002'\")"
	$(BIN)/retl plan users_track --show-values
	$(BIN)/retl sync users_track
	$(BIN)/retl sandbox --last 1

test: $(VENV)/installed ## All tests
	$(BIN)/pytest --numprocesses auto

test-random: SEED ?= $(shell $(PYTHON) -c "import secrets; print(secrets.randbelow(2**32))")
test-random: $(VENV)/installed ## All tests with other draws than those of make test, and more: SEED=n repeats them
	$(BIN)/pytest --numprocesses auto --hypothesis-profile=random --hypothesis-seed=$(SEED)

test-clients: $(VENV)/installed ## Clients of Braze that others wrote, against the sandbox: needs Node.js with npm, and installs into .clients
	$(BIN)/pytest clients

test-orchestrators: $(ORCHESTRATORS:%=.orchestrators/%/installed) ## docs/examples, run by Airflow, Dagster and Prefect
	cd docs/examples && set -e; for name in $(ORCHESTRATORS); do \
		../../.orchestrators/$$name/bin/python -m pytest --config-file=pytest.ini test_$$name.py; done

.orchestrators/%/installed: docs/examples/requirements/%.txt pyproject.toml
	$(PYTHON) -m venv --clear .orchestrators/$*
	.orchestrators/$*/bin/python -m pip install --quiet -r $< --editable .
	touch $@

$(DBT)/installed: tests/projects/dbt/requirements.txt
	$(PYTHON) -m venv $(DBT)
	$(DBT)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

test-dbt: $(VENV)/installed $(DBT)/installed ## dbt build and retl sync on one warehouse, with dbt itself: a minute
	RETL_DBT=$(DBT)/bin/dbt $(BIN)/pytest -m dbt

test-page: $(VENV)/installed ## The sandbox's page in headless Chromium, which it installs if it may
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } || { echo "test-page needs Debian's package chromium: sudo apt-get install chromium" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --group page
	$(BIN)/pytest tests/page

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed
	$(BIN)/mypy

check: lint types test ## What CI runs

torture: $(VENV)/installed ## Kill syncs at random moments while the server misbehaves, 200 of each mode: some 15 minutes
	$(BIN)/python -c "from tests.torture import main; main()" $(TORTURE)

bench: $(VENV)/installed ## How fast it is, each figure beside its yardstick: some ten minutes
	$(BIN)/python -m bench.run --write $(BENCH)

docs: $(VENV)/installed ## Write what README.md, docs/cli.md and docs/sandbox.md take from the code
	$(BIN)/python -m docs.generate

clean:
	rm -rf $(VENV) $(DBT) .clients .orchestrators .retl/sandbox warehouse.duckdb target
