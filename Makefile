# make demo and make test do all set-up on a machine with python3, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DBT := .venv-dbt
SPARK := .venv-spark
LATEST := .venv-latest
LAKES := .venv-lakes

.PHONY: demo test test-long test-random test-latest test-page test-container test-clients test-orchestrators test-dbt test-engines test-engines-long test-table-formats test-spark test-lakes test-dialects test-wheel torture torture-engines torture-collect soak attack bench \
	lint types check docs pictures browser constraints dist clean
ORCHESTRATORS := airflow dagster prefect

# The same versions everywhere, until `make constraints` writes down newer ones.
PINNED := --constraint constraints.txt --build-constraint constraints.txt

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip --constraint constraints.txt
	$(BIN)/python -m pip install --quiet $(PINNED) --editable . --group dev
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

test: $(VENV)/installed ## The tests, without those that take over a second each: three minutes
	$(BIN)/pytest --numprocesses auto --dist worksteal -m "not long and not dbt"

test-long: $(VENV)/installed ## Those that take over a second each: histories, kills, stores, many syncs. Five minutes
	$(BIN)/pytest --numprocesses auto --dist worksteal -m long

test-random: SEED ?= $(shell $(PYTHON) -c "import secrets; print(secrets.randbelow(2**32))")
test-random: $(VENV)/installed ## Both with other draws, and more of them: SEED=n repeats them
	$(BIN)/pytest --numprocesses auto --dist worksteal --hypothesis-profile=random --hypothesis-seed=$(SEED)

test-latest: $(LATEST)/bin/pip ## Both, with the newest versions that pyproject.toml allows
	$(LATEST)/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable . --group dev
	$(LATEST)/bin/pytest --numprocesses auto --dist worksteal

$(LATEST)/bin/pip:
	$(PYTHON) -m venv $(LATEST)
	$(LATEST)/bin/python -m pip install --quiet --upgrade pip

constraints: $(LATEST)/bin/pip ## Write down the newest versions that are allowed, for all installs of this file: two minutes
	$(call pin,pip --editable . --group dev --group page --group engines --group build) > constraints.txt
	$(call pin,--requirement tests/projects/dbt/requirements.txt) > tests/projects/dbt/constraints.txt
	set -e; for name in $(ORCHESTRATORS); do \
		$(call pin,--requirement docs/examples/requirements/$$name.txt --editable .) > docs/examples/constraints/$$name.txt; done
pin = $(LATEST)/bin/python -m pip install --quiet --dry-run --ignore-installed --report $(LATEST)/report.json $(1) \
	&& $(LATEST)/bin/python .ci/pins.py $(LATEST)/report.json

test-clients: $(VENV)/installed ## Clients of Braze that others wrote, against the sandbox: needs Node.js with npm, and installs into .clients
	$(BIN)/pytest clients

test-orchestrators: $(ORCHESTRATORS:%=.orchestrators/%/installed) ## docs/examples, run by Airflow, Dagster and Prefect
	cd docs/examples && set -e; for name in $(ORCHESTRATORS); do \
		../../.orchestrators/$$name/bin/python -m pytest --config-file=pytest.ini test_$$name.py; done

.orchestrators/%/installed: docs/examples/requirements/%.txt docs/examples/constraints/%.txt pyproject.toml
	$(PYTHON) -m venv --clear .orchestrators/$*
	.orchestrators/$*/bin/python -m pip install --quiet --requirement $< --constraint docs/examples/constraints/$*.txt --editable .
	touch $@

$(DBT)/installed: tests/projects/dbt/requirements.txt tests/projects/dbt/constraints.txt
	$(PYTHON) -m venv $(DBT)
	$(DBT)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $< --constraint tests/projects/dbt/constraints.txt
	touch $@

test-dbt: $(VENV)/installed $(DBT)/installed ## dbt build and retl sync on one warehouse, with dbt itself, on DuckDB and Postgres: two minutes
	$(BIN)/python -m pip install --quiet $(PINNED) --group engines
	RETL_DBT=$(CURDIR)/$(DBT)/bin/dbt $(BIN)/pytest --numprocesses 2 --dist worksteal -m dbt tests/project/test_dbt_build.py tests/warehouses/test_dbt.py

test-engines: $(VENV)/installed ## Each warehouse: DuckDB, Postgres 15 (if Debian's package is there), 16 and 18, Sail. Two minutes
	$(BIN)/python -m pip install --quiet $(PINNED) --group engines
	$(BIN)/pytest --numprocesses 3 tests/warehouses -m "not long and not dbt"

test-engines-long: $(VENV)/installed ## Those that take over a second each: kills, purchases of months, what Spark compares. Five minutes
	$(BIN)/python -m pip install --quiet $(PINNED) --group engines
	$(BIN)/pytest --numprocesses 3 tests/warehouses -m long

COMPARED := comparing people_in_spark corrected_in_spark baseline_in_spark spark_fails killed_beginnings killed_compactions

test-table-formats: $(VENV)/installed ## What Spark compares, in Sail, with acknowledged rows in tables of Delta, then of Iceberg
	$(BIN)/python -m pip install --quiet $(PINNED) --group engines
	set -e; for form in delta iceberg; do \
		RETL_TABLE_FORMAT=$$form $(BIN)/pytest --numprocesses 2 $(COMPARED:%=tests/warehouses/test_%.py); done

$(SPARK)/installed: tests/spark/requirements.txt
	$(PYTHON) -m venv $(SPARK)
	$(SPARK)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

test-dialects: $(VENV)/installed $(SPARK)/installed ## Rows of dialects on Hive's own classes and on Spark: needs Java 17; two minutes
	RETL_SPARK=$(CURDIR)/$(SPARK)/bin/python $(BIN)/pytest tests/spark

test-spark: $(VENV)/installed $(SPARK)/installed ## The contract of all warehouses on Apache Spark: needs Java 17; three quarters of an hour
	$(BIN)/python -m pip install --quiet $(PINNED) --group engines
	RETL_SPARK_HOME=$$($(SPARK)/bin/python -c "import os, pyspark; print(os.path.dirname(pyspark.__file__))") \
		$(BIN)/pytest tests/warehouses/test_contract.py tests/warehouses/test_spark.py tests/warehouses/test_comparing.py \
		tests/warehouses/test_people_in_spark.py tests/warehouses/test_corrected_in_spark.py \
		tests/warehouses/test_baseline_in_spark.py tests/warehouses/test_spark_fails.py \
		-k "sail or test_spark or test_comparing or in_spark"

$(LAKES)/installed: tests/lakes/requirements.txt constraints.txt pyproject.toml
	$(PYTHON) -m venv --clear $(LAKES)
	$(LAKES)/bin/python -m pip install --quiet --upgrade pip --constraint constraints.txt
	$(LAKES)/bin/python -m pip install --quiet --disable-pip-version-check $(PINNED) --editable . --group dev
	$(LAKES)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	touch $@

test-lakes: $(LAKES)/installed ## DuckLake, SQLite and a bucket as the warehouse, with DuckDB 1.5.5, whose extensions are on PyPI
	$(LAKES)/bin/pytest --numprocesses 2 tests/lakes

test-page: browser ## The sandbox's page, and that of a project, in headless Chromium, which it installs if it may
	$(BIN)/pytest tests/page

pictures: browser ## Draw docs/page-*.png, of the demo shop; PICTURES=folder draws every page there, wide, narrow, light, dark
	$(BIN)/python -m docs.page_pictures $(PICTURES)

browser: $(VENV)/installed
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } || { echo "this needs Debian's package chromium: sudo apt-get install chromium" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet $(PINNED) --group page

test-container: dist .container/debian ## The steps of docs/install.md's Dockerfile in a Debian, by chroot: needs root and debootstrap; two minutes
	$(BIN)/pytest tests/container

.container/debian:
	@[ "$$(id -u)" = 0 ] && command -v debootstrap >/dev/null || { echo "test-container needs root, and Debian's package debootstrap: apt-get install debootstrap" >&2; exit 2; }
	rm -rf $@.part && mkdir -p $(@D)
	debootstrap --variant=minbase --include=python3,python3-pip bookworm $@.part >/dev/null
	mv $@.part $@

test-wheel: dist ## The wheel, installed into an environment of its own and used outside the checkout
	$(BIN)/pytest tests/wheel

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed
	$(BIN)/mypy

check: lint types test test-long ## Before a pull request: what CI runs but for the warehouses, and the long tests

torture: $(VENV)/installed ## Kill syncs at random moments while the server misbehaves, 200 of each mode: some 15 minutes
	$(BIN)/python -c "from tests.torture import main; main()" $(TORTURE)

torture-engines: $(VENV)/installed ## The same with models that run in Postgres, and in Sail, 50 of each mode: an hour and a half
	$(BIN)/python -m pip install --quiet $(PINNED) --group engines
	$(BIN)/python -c "from tests.torture import main; main()" --postgres postgres-16 --kills 50 $(TORTURE)
	$(BIN)/python -c "from tests.torture import main; main()" --sail --kills 50 $(TORTURE)
	$(BIN)/python -c "from tests.torture import main; main()" --compared --kills 50 $(TORTURE)
	$(BIN)/pytest --hypothesis-profile=random tests/warehouses/test_killed_beginnings.py tests/warehouses/test_killed_compactions.py

torture-collect: $(VENV)/installed ## Kill collectors at random moments, 200 times, while clients count: five minutes
	$(BIN)/python -c "from tests.torture_collect import main; main()" $(TORTURE)

soak: $(VENV)/installed ## A year of runs on a simulated clock, 1,000 of each kind, local and shared: nothing may grow. An hour
	$(BIN)/python -c "from tests.soak import main; main()" $(SOAK)

attack: $(VENV)/installed ## Odd answers, damaged files, links, changed plans, mistyped projects, odd values, made up at random: an hour
	$(BIN)/python -c "from tests.attack import main; main()" $(ATTACK)

bench: $(VENV)/installed ## How fast it is, each figure beside its yardstick: some ten minutes
	$(BIN)/python -m pip install --quiet $(PINNED) --group engines
	RETL_SPARK_HOME=$$($(SPARK)/bin/python -c "import os, pyspark; print(os.path.dirname(pyspark.__file__))" 2>/dev/null) \
		$(BIN)/python -m bench.run --write $(BENCH)

docs: $(VENV)/installed ## Write what README.md, pages of docs/ and syncs.schema.json take from the code
	$(BIN)/python -m docs.generate

dist: $(VENV)/installed ## The wheel and the sdist, in dist/
	rm -rf dist
	$(BIN)/python -m hatchling build

clean:
	rm -rf $(VENV) $(DBT) $(SPARK) $(LATEST) $(LAKES) .clients .container .orchestrators .bench .retl/sandbox warehouse.duckdb target dist
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
