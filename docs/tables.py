"""Tables of pages that are made of the code's own: functions of templates, permissions of API keys."""

from collections.abc import Iterable, Mapping

from reverse_etl.braze.catalogs import CREATE_CATALOG, CREATE_FIELDS, READ_CATALOGS, READ_ITEM, READ_ITEMS
from reverse_etl.braze.modes import DELETE, MODES, Call, Mode
from reverse_etl.braze.names import PERMISSIONS
from reverse_etl.braze.subscriptions import Read

# What each of reverse_etl.project.models.FUNCTIONS is; the packages of dbt are a table of their own.
FUNCTIONS: Mapping[str, tuple[str, str]] = {
    "ref": ("ref('customers')", "another model, a seed, or a relation of dbt"),
    "source": ("source('app', 'orders')", "a table: schema `app`, or what `sources:`, `dbt:` or `collect:` say"),
    "config": ("config(dialect='hive')", "the SQL that the model is written in; dbt's keys are read past"),
    "var": ("var('country', 'KR')", "a value of `vars:` or `--vars`; the second is the default"),
    "env_var": ("env_var('REGION', 'eu')", "an environment variable that is not a secret; the second is the default"),
    "target": ("target.name", "the name of the target"),
    "run_started_at": ("run_started_at", "when the run started, in UTC"),
    "scheduled_time": ("scheduled_time", "the time that the run is for, in UTC"),
    "in_zone": ("in_zone(scheduled_time, 'Asia/Seoul', days=-1)", "a time on the clock of a zone"),
    "is_incremental": ("is_incremental()", "whether an incremental sync continues where it ended"),
    "cursor": ("cursor()", "where it continues: the SQL of a value"),
    "return": ("return(['paid', 'open'])", "in a macro: its value"),
    "adapter": ("adapter.dispatch('name')", "a macro for the type of the warehouse"),
}


def functions() -> str:
    rows = [f"| `{name}` | `{call}` | {what} |" for name, (call, what) in FUNCTIONS.items()]
    return "\n".join(["| name | example | |", "|---|---|---|", *rows])


# What other commands and keys need besides the permission of the mode.
_BESIDES: Mapping[str, tuple[str, ...]] = {
    "`on_removed: delete` of users": (DELETE.permission,),
    "`retl forget --delete-in-braze`": (DELETE.permission,),
    "`retl sync --create-catalog`": tuple(call.permission for call in (READ_CATALOGS, CREATE_CATALOG, CREATE_FIELDS)),
    "`--canary`, `retl verify`: users": (Read.STATES.permission,),
    "`--canary`, `retl verify`, `--read-first`: subscription groups": (Read.GROUPS.permission,),
    "`retl verify`: items": (READ_ITEMS.permission, READ_ITEM.permission),
    "`--read-first`: `email_subscribe`, `push_subscribe`": (Read.STATES.permission,),
    "`retl lock --from-braze`": tuple(PERMISSIONS.values()),
}


def permissions() -> str:
    """The permissions of an API key, by what a sync does."""
    lines = ["| | permissions |", "|---|---|"]
    for mode in MODES.values():
        kind = f", `track_record_type: {mode.record_type}`" if mode.record_type else ""
        lines.append(f"| `mode: {mode.name}`{kind} | {_listed(call.permission for call in calls_of(mode))} |")
    lines += [f"| {what} | {_listed(names)} |" for what, names in _BESIDES.items()]
    return "\n".join(lines)


def calls_of(mode: Mode) -> list[Call]:
    """The calls of a mode with all that it can do; users who leave a model are deleted by another mode's."""
    deletion = mode.deletion.call if mode.deletion and mode.deletion.call.permission != DELETE.permission else None
    first = READ_CATALOGS if "catalog" in mode.keys else None  # it is looked whether it is there
    return [call for call in (first, mode.call, mode.update, deletion) if call]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in dict.fromkeys(names))
