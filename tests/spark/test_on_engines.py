"""The tables of dialects, proved on Hive's own function classes and on Spark: `make test-dialects`.

hive-exec is part of pyspark's wheel, so its functions can be called from Spark. What has no function of its own in Hive
(operators, EXTRACT) is run by Spark, which is near Hive there. There is no Trino in a package index: its rows name a page.
"""

import json
import os
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from sqlglot import exp

from docs import dialect_cases as cases
from reverse_etl.project.dialects.parse import parser_of
from reverse_etl.project.dialects.row import Verdict
from reverse_etl.project.dialects.translate import TABLES
from tests.spark.classes import CASTS, CLASSES

ROWS = (
    "SELECT * FROM VALUES ('c', 1, array(3, NULL, 7), map('k', 1), '{\"a\": 1, \"b\": \"x\"}', CAST(NULL AS STRING)),"
    " ('d', 2, array(), map(), 'bad', '1.5') AS u (id, n, l, m, j, s)"
)
PYTHON = os.environ.get("RETL_SPARK")
pytestmark = pytest.mark.skipif(PYTHON is None, reason="run by `make test-dialects`")


def as_hive(sql: str) -> str:
    """An expression with Hive's classes in place of functions and casts of Spark."""
    tree: Any = sqlglot.parse_one(f"SELECT {sql} AS x", read=parser_of("hive"))

    for call in tree.find_all(exp.Anonymous):
        if call.name.lower() in CLASSES and call.expressions:
            call.set("this", f"hive_{call.name.lower()}")
    for cast in reversed(list(tree.find_all(exp.TryCast))):
        if cast.to.this.name in CASTS and not cast.to.expressions:
            cast.replace(exp.Anonymous(this=f"hive_to_{cast.to.this.name.lower()}", expressions=[cast.this]))
    return str(tree.expressions[0].this.sql(dialect="hive"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("spark")
    functions = {f"hive_{name}": of for name, of in CLASSES.items()}
    functions |= {f"hive_to_{name.lower()}": of for name, of in CASTS.items()}
    columns = {
        name: ("string" if kind == "varchar" else kind, repr(value)) for name, (kind, value) in cases.COLUMNS.items()
    }
    expressions = [as_hive(case.sql) for case in cases.HIVE if case.source == "hive"] + [
        case.sql for case in cases.SPARK if case.source == "spark"
    ]
    job = {
        "columns": columns,
        "rows": ROWS,
        "models": [case.sql for case in cases.SPARK_MODELS],
        "functions": functions,
        "expressions": list(dict.fromkeys(expressions)),
    }
    (folder / "asked.json").write_text(json.dumps(job))
    script = Path(__file__).parent / "on_spark.py"
    command = [str(PYTHON), str(script), str(folder / "asked.json"), str(folder / "answered.json")]
    subprocess.run(command, check=True, cwd=folder, capture_output=True)
    answered: dict[str, Any] = json.loads((folder / "answered.json").read_text())
    return answered


def agreed(value: Any, wanted: Any) -> Any:
    """A value as DuckDB's JSON has it: Spark writes times in another way."""
    if value == wanted:
        return value
    time = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d*?)?0*Z", value) if isinstance(value, str) else None
    return f"{time[1]} {time[2]}{(time[3] or '').rstrip('.')}" if time else value


def test_spark_agrees(found: dict[str, Any]):
    wanted = {case.sql: case.result and json.loads(case.result) for case in cases.SPARK if case.source == "spark"}
    assert {sql: agreed(found[sql], result) for sql, result in wanted.items()} == wanted


def test_spark_agrees_on_models(found: dict[str, Any]):
    """Spark leaves NULLs out of its rows of JSON."""
    for case in cases.SPARK_MODELS:
        rows = [[value for value in row if value is not None] for row in json.loads(case.result or "")]
        assert [list(row.values()) for row in found[case.sql]] == rows, case.sql


def test_hive_agrees(found: dict[str, Any], capsys: pytest.CaptureFixture[str]):
    wanted = {case.sql: case.result and json.loads(case.result) for case in cases.HIVE if case.source == "hive"}
    assert {sql: agreed(found[as_hive(sql)], result) for sql, result in wanted.items()} == wanted
    with capsys.disabled():
        print(f"\n{report()}")


def report() -> str:
    lines = []
    for dialect, parts in {"hive": (cases.HIVE, cases.HIVE_MODELS), "spark": (cases.SPARK, cases.SPARK_MODELS),
                           "trino": (cases.TRINO, cases.TRINO_MODELS)}.items():  # fmt: skip
        rows = Counter(row.verdict.value for row in TABLES[dialect].functions.values())
        listed = [case for part in parts for case in part]
        by_page = sum(case.source.startswith("https://") for case in listed)
        noted = sum(case.source == cases.NOTED for case in listed)
        by_hive = (
            sum(case.source == "hive" and "hive_" in as_hive(case.sql).lower() for case in parts[0])
            if dialect == "hive"
            else 0
        )
        written = " ".join(case.sql for case in listed).lower()
        unproved = [name for name, row in TABLES[dialect].functions.items()
                    if row.verdict is not Verdict.REFUSED and not re.search(rf"\b{name}\b", written)]  # fmt: skip
        counts = ", ".join(f"{rows[one.value]} {one.value}" for one in Verdict)
        by_spark = len(listed) - by_hive - by_page - noted
        proofs = f"{by_hive} by Hive's classes, {by_spark} by Spark, {by_page} by page, {noted} that differ as noted"
        lines.append(f"{dialect}: {counts}; {len(listed)} proofs: {proofs}; {len(unproved)} unproved")
    return "\n".join(lines)
