"""Runs SQL on Spark, and on the function classes of Hive inside of it, for `make test-dialects`.

Needs nothing but pyspark, and Java 17. Reads {"columns", "rows", "functions", "expressions", "models"} as JSON from a file, and writes
{expression: its value, or {"error": ...}, model: its rows} to another.
"""

import json
import sys

from pyspark.sql import SparkSession


def main(asked: str, answered: str) -> None:
    with open(asked, encoding="utf-8") as file:
        job = json.load(file)
    settings = {
        "spark.ui.enabled": "false",
        "spark.sql.ansi.enabled": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.warehouse.dir": f"{answered}.warehouse",
        "spark.driver.extraJavaOptions": f"-Duser.timezone=UTC -Dderby.system.home={answered}.derby",
        "spark.sql.catalogImplementation": "hive",
    }
    builder = SparkSession.builder.master("local[1]")
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    for name, of in job["functions"].items():
        spark.sql(f"CREATE TEMPORARY FUNCTION {name} AS 'org.apache.hadoop.hive.ql.udf.{of}'")
    columns = ", ".join(f"CAST({value} AS {kind}) AS {name}" for name, (kind, value) in job["columns"].items())
    spark.sql(f"SELECT {columns}").createOrReplaceTempView("t")
    spark.sql(job["rows"]).createOrReplaceTempView("u")
    found = {}
    for sql in job["models"]:
        found[sql] = [json.loads(row) for row in spark.sql(sql).toJSON().collect()]
    for sql in job["expressions"]:
        try:
            rows = spark.sql(f"SELECT to_json(named_struct('x', x)) FROM (SELECT {sql} AS x FROM t)").collect()
            found[sql] = json.loads(rows[0][0]).get("x")
        except Exception as error:  # noqa: BLE001  # whatever the engine says
            found[sql] = {"error": str(error).splitlines()[0][:200]}
    with open(answered, "w", encoding="utf-8") as file:
        json.dump(found, file)


main(*sys.argv[1:])
