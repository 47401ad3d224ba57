"""`config(...)` in a model: retl's own key, and dbt's, which a copied model may keep. Pure."""

from collections.abc import Mapping
from typing import Any

from reverse_etl.errors import Location, Problem, nearest
from reverse_etl.project.dialects.names import DIALECTS, NOT_TRANSLATED
from reverse_etl.project.environment import TemplateProblem
from reverse_etl.project.spec_targets import WAREHOUSES
from reverse_etl.project.template_uses import reading
from reverse_etl.words import count

# Keys of models in dbt and its adapters, which say how dbt builds a relation: retl builds none.
# https://docs.getdbt.com/reference/model-configs, and the pages of dbt-duckdb, -postgres, -spark, -snowflake, -bigquery
OF_DBT = frozenset(
    """
    access alias batch_size begin concurrent_batches contract database docs enabled event_time freshness full_refresh
    grants group hooks incremental_predicates incremental_strategy lookback materialized merge_exclude_columns
    merge_update_columns meta on_configuration_change on_error on_schema_change packages persist_docs post_hook pre_hook
    query_comment quoting schema sql_header static_analysis tags unique_key
    auto_refresh automatic_clustering backup bind buckets catalog cluster_by clustered_by copy_grants delimiter
    dist dist_style external_volume file_format format glue_register hours_to_expiration indexes kms_key_name labels
    liquid_clustered_by location location_root options overwrite_columns parquet_read_options partition_by
    partitioned_by partitions plugin query_tag read_only require_partition_filter snowflake_warehouse sort sort_type
    table_format table_properties target_lag tblproperties time_ingestion_partitioning transient unlogged
    """.split()  # noqa: SIM905  # a list of so many lines is not read any more
)
MODEL_KEYS = ("dialect",)
_SHOWN = 4  # keys of dbt in a note


def configure(settings: dict[str, str], dialect: str, given: Any = None, /, **options: Any) -> str:
    """Read what a model says with `config(...)` into `settings`. Raises TemplateProblem."""
    if not isinstance(given, Mapping | None):
        raise TemplateProblem("config() has a value without a key", "call it as config(dialect='hive')", code="P041")
    for key, value in {**(given or {}), **options}.items():
        if key in OF_DBT:
            continue
        if key not in MODEL_KEYS:
            hint = nearest(key, (*MODEL_KEYS, *OF_DBT)) or "remove it, or put a key of your own under meta={...}"
            raise TemplateProblem(f'config(): unknown key "{key}"', hint, code="P041")
        if dialect != "duckdb":
            where = WAREHOUSES[dialect]
            what = f"config(): models of this target run in {where}, and are not translated"
            raise TemplateProblem(what, f"remove it, and write {where}'s own SQL", code="P041")
        if value in NOT_TRANSLATED:
            what = f'config(): dialect "{value}" is not translated: {NOT_TRANSLATED[value]}'
            raise TemplateProblem(what, "write this model in DuckDB SQL", code="P041")
        if value not in DIALECTS:
            raise TemplateProblem(f'config(): unknown dialect "{value}"', nearest(value, DIALECTS), code="P041")
        settings[key] = value
    return ""


def note_on_configs(texts: Mapping[str, str]) -> Problem | None:
    """A note about the keys of dbt in models, by file, if there are any: what they ask for is not done. It names the
    keys of one model, and how many others have such keys."""
    found = {file: calls for file, text in texts.items() if "config" in text and (calls := _of_dbt(text))}
    if not found:
        return None
    file, *others = found
    line, keys = min(found[file].values()), sorted(found[file])
    shown = keys if len(keys) <= _SHOWN else [*keys[: _SHOWN - 1], f"and {len(keys) - _SHOWN + 1} more"]
    more = f"; so are keys of {count(len(others), 'more model')}" if others else ""
    hint = "nothing to do: retl builds no tables, and sends what the model returns"
    return Problem(f"config(): {', '.join(shown)}: read by dbt only{more}", Location(file, line), hint, code="P138")


def _of_dbt(text: str) -> dict[str, int]:
    """The keys of dbt in a model, each with the line of its config()."""
    calls = [call for call in reading(text).top.calls if call.function == "config"]
    return {name: call.line for call in reversed(calls) for name in call.names if name in OF_DBT}
