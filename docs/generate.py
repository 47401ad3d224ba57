"""Generates parts of README.md and of the pages in docs/ from the code: `make docs`, or `-m docs.generate FILE ...`.

A test compares. A generated part is between `<!-- name -->` and `<!-- /name -->`.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, get_args

import duckdb
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.main import get_command

from docs import limits, tables
from docs.key_examples import EXAMPLES
from docs.pictures import WIDTH, picture
from docs.sandbox_drops import DROPS
from docs.sandbox_rules import RULES, SOURCES, Rule
from docs.stories import copy_shop, told
from docs.values_rules import ROWS
from reverse_etl.braze.ecommerce import EVENTS, PREFIX, PROPERTIES
from reverse_etl.braze.modes import (
    MODES,
    Extra,
    Kind,
    Mode,
    Shape,
)
from reverse_etl.cli import app
from reverse_etl.codes import CODES
from reverse_etl.ledger.flapping import RULES as RULES_OF_FLAPS
from reverse_etl.project.dbt_packages import PACKAGES
from reverse_etl.project.dialects.row import Verdict
from reverse_etl.project.dialects.translate import TABLES
from reverse_etl.project.fields import OneOf
from reverse_etl.project.json_schema import SCHEMA_FILE, json_schema
from reverse_etl.project.spec import Consent, Dbt, File, Guards, Incremental, Ledger, Predecessor, Source, Sync
from reverse_etl.project.spec_alerts import Email, Heartbeat, Slack, Webhook
from reverse_etl.project.spec_collect import Collect, CollectSource, CollectTable
from reverse_etl.project.spec_targets import BrazeConfig, DuckDB, Postgres, Spark, StatePlace, Target
from reverse_etl.project.spec_tests import (
    AcceptedValues,
    Expect,
    ExpectedInvalid,
    Input,
    Macros,
    Overrides,
    UnitTest,
)
from reverse_etl.report.artifacts import Manifest, PlanArtifact, RunResults, schema_of
from reverse_etl.sandbox.http.limits import DEFAULTS, LIGHT_EXPORT
from reverse_etl.sandbox.workspace import ENDPOINTS, Endpoint
from reverse_etl.starter.ci import filled_in
from reverse_etl.words import as_json

ROOT = Path(__file__).parents[1]
TOOLS = Path(sys.executable).parent  # where `retl` is, for commands whose output a page shows


def modes() -> str:
    lines = ["| mode | endpoint | columns | rows per request | sends | idempotent |", "|---|---|---|---|---|---|"]
    lines += [f"| {_mode_row(mode)} |" for mode in MODES.values()]
    return "\n".join(lines)


def _mode_row(mode: Mode) -> str:
    kinds = "new and changed rows" if Kind.CHANGED in mode.kinds else "new rows"
    required = [field.name for field in mode.fields if field.required]
    optional = [field.name for field in mode.fields if not field.required]
    identifiers = f"one of {', '.join(mode.identifiers)}" if mode.identifiers else ""
    needed = "; ".join(part for part in (identifiers, ", ".join(required)) if part)
    extras = {
        Extra.CUSTOM_ATTRIBUTE: "profile fields; any other column is a custom attribute",
        Extra.PROPERTY: f"{', '.join(optional)}; any other column is a property",
        Extra.CATALOG_FIELD: "any other column is a field of the catalog",
        Extra.REFUSED: f"optional: {', '.join(optional)}" if optional else "no others",
    }[mode.extra]
    cells = (
        f"`{mode.name}`" + (f"<br>`track_record_type: {mode.record_type}`" if mode.record_type else ""),
        "<br>".join(call.label for call in mode.calls if call.path == mode.call.path),
        f"**{needed}**; {extras}",
        str(mode.call.rows_per_request),
        kinds,
        "yes" if mode.is_idempotent else "**no**",
    )
    return " | ".join(cells)


def keys_of(model: type[BaseModel]) -> Callable[[], str]:
    def table() -> str:
        lines = ["| key | default | | example |", "|---|---|---|---|"]
        for name, field in model.model_fields.items():
            default = "" if field.default in (PydanticUndefined, None, (), "", []) else _word(field.default)
            parts = [part for part in (field.description, _values(field.annotation, field.metadata)) if part]
            key = field.alias or name
            lines.append(f"| `{key}` | {default} | {'; '.join(parts)} | `{EXAMPLES[model][key]}` |")
        return "\n".join(lines)

    return table


def keys_beside(model: type[BaseModel], other: type[BaseModel]) -> Callable[[], str]:
    """The keys that `model` has and `other` has not."""

    def table() -> str:
        heading, line, *rows = keys_of(model)().splitlines()
        known = [row.split(" | ")[0] for row in keys_of(other)().splitlines()]
        return "\n".join([heading, line, *(row for row in rows if row.split(" | ")[0] not in known)])

    return table


def _word(default: object) -> str:
    if isinstance(default, BaseModel) or default == {}:
        return ""
    if isinstance(default, tuple):
        return ", ".join(f"`{one}`" for one in default)
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _values(annotation: object, metadata: Sequence[object] = ()) -> str:
    for one in (*metadata, *(one for part in get_args(annotation) for one in getattr(part, "__metadata__", ()))):
        if isinstance(one, OneOf):
            return ", ".join(f"`{word}`" for word in one.words())
    listed = re.findall(r"Literal\[(.*?)\]", str(annotation))
    return listed[0].replace("'", "`") if listed else ""


def ecommerce_schemas() -> str:
    """Which e-commerce event has which properties."""
    what = {Shape.TEXT: "a string", Shape.NUMBER: "a number", Shape.OBJECT: "an object", Shape.ARRAY: "a list"}
    heading = ["R required, o optional", "", *(event.removeprefix(PREFIX) for event in EVENTS)]
    lines = [f"| {' | '.join(heading)} |", "|---" * len(heading) + "|"]
    for one in PROPERTIES.values():
        allowed = f", of {', '.join(f'`{choice}`' for choice in one.choices)}" if one.choices else ""
        described = what[one.shape] + (", not negative" if one.is_amount else "") + allowed
        lines.append(f"| {' | '.join([f'`{one.name}`', described, *one.use.replace('-', ' ')])} |")
    return "\n".join(lines)


def functions_of(dialect: str, beside: str | None = None) -> Callable[[], str]:
    """The rows of a dialect, or those that differ from another one's. Functions of the same row share a line."""

    def table() -> str:
        known = TABLES[beside].functions if beside else {}
        names: dict[tuple[str, str], list[str]] = {}
        for name, row in sorted(TABLES[dialect].functions.items()):
            if known.get(name) != row:
                said = f"{row.why}; {row.instead}" if row.why and row.instead else row.why or row.how
                names.setdefault((row.verdict.value, said), []).append(f"`{name}`")
        order = list(Verdict)
        rows = sorted(names.items(), key=lambda item: (order.index(Verdict(item[0][0])), item[1]))
        lines = [f"| {', '.join(listed)} | {verdict} | {_in_a_table(said)} |" for (verdict, said), listed in rows]
        return "\n".join(["| function | | in DuckDB |", "|---|---|---|", *lines])

    return table


def macros_of_dbt() -> str:
    """The macros of dbt's packages, by the SQL that does the same."""
    names: dict[str, list[str]] = {}
    for package in ("dbt_utils", "dbt"):
        for name, sql in PACKAGES[package].items():
            if package == "dbt" or name not in PACKAGES["dbt"]:
                names.setdefault(sql, []).append(f"`{package}.{name}`")
    # A list: in a table, `||` would have to be escaped, and could not be copied from the file.
    return "\n".join(f"* {', '.join(listed)}: `{sql}`" for sql, listed in names.items())


_CALL = re.compile(r"\w+\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)")


def _in_a_table(text: str) -> str:
    """SQL, or text with calls of functions in it, as a cell of Markdown: what is SQL as code."""
    return (f"`{text}`" if _is_sql(text) else _CALL.sub(r"`\g<0>`", text)).replace("|", "\\|")


def _is_sql(text: str) -> bool:
    if "() in " in text:  # which DuckDB reads as its IN
        return False
    try:
        return len(duckdb.extract_statements(f"SELECT {text}")) == 1
    except duckdb.Error:
        return False


def commands() -> str:
    group = get_command(app)
    lines = ["| command | |", "|---|---|"]
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        for inner, sub in getattr(command, "commands", {"": command}).items():
            lines.append(f"| `retl {f'{name} {inner}'.strip()}` | {sub.get_short_help_str(200)} |")
    return "\n".join(lines)


def cli_reference() -> str:
    """Every command with its arguments and options."""
    group = get_command(app)
    parts = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        for inner, sub in getattr(command, "commands", {"": command}).items():
            rows = [_parameter_row(parameter) for parameter in sub.params if parameter.name != "help"]
            table = ["| | | default |", "|---|---|---|", *rows] if rows else []
            parts.append("\n".join([f"## retl {f'{name} {inner}'.strip()}", "", sub.help or "", "", *table]).strip())
    return "\n\n".join(parts)


def _parameter_row(parameter: Any) -> str:
    names = (
        [*parameter.opts, *parameter.secondary_opts] if parameter.opts[0].startswith("-") else [parameter.name.upper()]
    )
    default = parameter.default
    shown = "" if default in (None, False, "", ()) or callable(default) else f"`{getattr(default, 'value', default)}`"
    variable = f" Environment: `{parameter.envvar}`." if getattr(parameter, "envvar", None) else ""
    return f"| {', '.join(f'`{name}`' for name in names)} | {parameter.help or ''}{variable} | {shown} |"


def fields_of(model: type[BaseModel]) -> Callable[[], str]:
    """The fields of an artifact; nested fields have the name of their parent and a dot before theirs."""

    def rows(schema: Mapping[str, Any], parts: Mapping[str, Any], before: str) -> list[str]:
        lines = []
        for name, field in schema.get("properties", {}).items():
            inner, kind = _inner(field, parts)
            about = field.get("description", inner.get("description", "") if inner else "")
            lines.append(f"| `{before}{name}` | {kind} | {about.splitlines()[0] if about else ''} |")
            if inner:
                lines += rows(inner, parts, f"{before}{name}.")
        return lines

    def table() -> str:
        schema = schema_of(model)
        return "\n".join(["| field | type | |", "|---|---|---|", *rows(schema, schema["$defs"], "")])

    return table


def _inner(field: Mapping[str, Any], parts: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, str]:
    """The object that a field contains, one or many of them, and the name of its type."""
    if "$ref" in field:
        return parts[field["$ref"].rpartition("/")[2]], "object"
    if "anyOf" in field:
        first, *others = (_inner(option, parts) for option in field["anyOf"])
        return first[0], " or ".join([first[1], *(kind for _, kind in others)])
    if field.get("type") == "array":
        inner, kind = _inner(field["items"], parts)
        return inner, f"list of {_plural(kind)}" if kind != "any" else "list"
    if isinstance(field.get("additionalProperties"), dict):
        inner, kind = _inner(field["additionalProperties"], parts)
        return inner, f"map of {_plural(kind)}"
    return None, field.get("format") or field.get("type", "any")


def _plural(kind: str) -> str:
    return kind.replace("list of", "lists of") if kind.startswith("list of") else f"{kind}s"


def syncs_schema() -> str:
    return as_json(json_schema()) + "\n"


def demo() -> str:
    """The commands of `make demo`, and what they print."""
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    with _copy_of_the_shop() as folder:
        return _console([line.strip().replace("$(BIN)/", "") for line in recipe[1].splitlines()], folder)


PULL_REQUEST = "docs/pull-request.md"


@cache
def walkthrough() -> Mapping[str, str]:
    """The parts of the walkthrough, run one after the other in one repository: their commands, and what they print."""
    text = (ROOT / PULL_REQUEST).read_text(encoding="utf-8")
    parts = re.findall(r"<!-- (\w+) -->\n(.*?)<!-- /\1 -->", text, re.DOTALL)
    with _copy_of_the_shop() as folder:
        shutil.copy(ROOT / ".gitignore", folder)
        syncs = folder / "syncs.yml"  # of a sync that is due every quarter of an hour, `ls` may say that it is due
        syncs.write_text(syncs.read_text().replace('"*/15 * * * *"', '"30 3 * * *"'))
        commit = "git init -q -b main && git add -A && git -c user.name=me -c user.email=me@example.com commit -qm shop"
        subprocess.run(commit, shell=True, cwd=folder, check=True)
        return {name: _console(re.findall(r"^\$ (.*)$", part, re.MULTILINE), folder) for name, part in parts}


@contextmanager
def _copy_of_the_shop() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "shop"
        folder.mkdir()
        copy_shop(ROOT, folder)
        yield folder


def _console(commands: Sequence[str], folder: Path) -> str:
    """Commands and what they print, without durations and times, and with exit codes other than 0."""
    path = os.pathsep.join([str(TOOLS), str(Path(sys.executable).parent), os.environ["PATH"]])
    environ = {**os.environ, "COLUMNS": "120", "PATH": path}
    lines = []
    for command in commands:
        done = subprocess.run(
            command,
            shell=True,
            cwd=folder,
            env=environ,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        lines += [f"$ {command}", *done.stdout.splitlines()]
        lines += [f"(exit code {done.returncode})"] if done.returncode else []
    text = re.sub(r" \(\d+\.\d s\)", "", "\n".join(lines))
    text = re.sub(r"  \d+\.\d s$", "  0.1 s", text, flags=re.MULTILINE)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "2026-11-25 08:00 UTC", text)
    text = re.sub(r"\d{8}T\d{6}-[0-9a-f]{6,}", "20261125T080000-3fa9c1", text)
    text = re.sub(r"started by \S+@\S+", "started by ann@laptop", text)
    text = re.sub(r"sandbox [0-9a-f]{16}", "sandbox 5f2b...", text)
    text = re.sub(r"its digest: [0-9a-f]{64}", "its digest: 5f2b...", text)
    return f"```console\n{text}\n```"


# The results that docs/reference.md quotes from bench/RESULTS.md: a row of its table, and its text there.
_QUOTED = {
    "10M: sync, nothing changed": "10M rows x 20 columns, nothing changed: all of `retl sync`",
    "10M: sync, 1 % changed and sent": "the same, with 1 % of the rows changed and sent",
    "10M: peak memory": "its peak memory",
    "1M: a first run, to its first request": "1M new rows, from the start to the first request",
    "requests/s over 60 s": "sending for one minute: TLS, 100 ms per response, 75 rows per request",
    "cores while sending": "cores while sending",
    "script, 300,000 rows": "a plain script with 16 threads, same rows, same sink",
    "dlt, 300,000 rows": "a dlt custom destination, 64 workers",
    "drt, 30,000 rows": "drt's REST destination, one request at a time",
}


def bench() -> str:
    about = "on shared machines of two cores, some half as fast as others: bench/RESULTS.md says when each part ran."
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in _results() if line.startswith("|")]
    found = {name: (wall, ratio, verdict) for name, wall, _, _, _, ratio, verdict, *_ in cells}
    lines = [f"`make bench`, {about}", "", "| | wall s | | |", "|---|---|---|---|"]
    lines += [f"| {text} | {' | '.join(found[name])} |" for name, text in _QUOTED.items()]
    return "\n".join(lines)


def bench_in_short() -> str:
    """Three of its figures, with their yardsticks."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in _results() if line.startswith("|")]
    wall = {name: f"**{wall} s** ({ratio})" for name, wall, _, _, _, ratio, *_ in cells}
    ratio = {name: ratio for name, _, _, _, _, ratio, *_ in cells}
    unchanged, changed, sent = "10M: sync, nothing changed", "10M: sync, 1 % changed and sent", "requests/s over 60 s"
    return f"""\
* 10 million rows of 20 columns, nothing changed: {wall[unchanged]}; COPY is DuckDB's, of the same model to Parquet.
* The same, 1 % changed and sent: {wall[changed]}, with a peak memory of {ratio["10M: peak memory"]}.
* Sending at Braze's rate limit, 75 rows per request: **{ratio[sent]}**."""


_LANGUAGES = {".py": "python", ".yml": "yaml", ".yaml": "yaml", "": "dockerfile"}  # of files, for their code blocks


def example(name: str) -> Callable[[], str]:
    """A file in docs/examples; tests run it."""
    path = ROOT / "docs" / "examples" / name
    return lambda: f"```{_LANGUAGES.get(path.suffix, 'ini')}\n{path.read_text(encoding='utf-8')}```"


def pipeline_of_gitlab() -> str:
    """What `retl init --ci gitlab` writes beside a new project."""
    spec = (ROOT / "reverse_etl" / "starter" / "project" / "syncs.yml").read_text(encoding="utf-8")
    return f"```yaml\n{filled_in('gitlab', spec, '.', '')}```"


def _results() -> list[str]:
    return (ROOT / "bench" / "RESULTS.md").read_text(encoding="utf-8").splitlines()


def sandbox_endpoints() -> str:
    lines = ["| endpoint | permission | rate limit (name in `limits`) |", "|---|---|---|"]
    lines += [f"| {method} {path} | `{one.scope}` | {_limit(one)} |" for (method, path), one in ENDPOINTS.items()]
    return "\n".join(lines)


def _limit(endpoint: Endpoint) -> str:
    if not isinstance(endpoint.family, str):
        return f"{_windows('users_export_ids')}, or {_windows(LIGHT_EXPORT)}"
    return _windows(endpoint.family)


def _windows(family: str) -> str:
    windows = ", ".join(f"{requests:,} in {seconds:,.0f} s" for requests, seconds in DEFAULTS[family])
    return f"{windows} (`{family}`)"


def values() -> str:
    lines = []
    for heading, rows in ROWS.items():
        lines += [f"## {heading}", "", "| Braze | page | retl | test |", "|---|---|---|---|"]
        for row in rows:
            tests = "<br>".join(f"`{test.replace('|', chr(92) + '|')}`" for test in row.tests)
            lines.append(f"| {row.rule} | {row.page} | {row.outcome} | {tests} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def sandbox_rules() -> str:
    lines = ["| rule | source | test |", "|---|---|---|"]
    for section, rules in RULES.items():
        lines += [f"| **{section}** | | |", *map(_rule_row, rules)]
    return "\n".join(lines)


def silent_drops() -> str:
    rows = [
        f"| {reason.replace('{}', '...')} | {fate.value} |" for fate, reasons in DROPS.items() for reason in reasons
    ]
    return "\n".join(["| dropped or changed | |", "|---|---|", *rows])


_OF_FLAPS = {
    "clock": "nine of ten rows of the model or more, in one run: a date or time that is later, or a number that grows "
    "by the same in all",
    "time": "the values are the same but for dates and times in them",
    "rounding": "the values are the same but for numbers in them, which differ by less than a millionth of themselves; "
    "whole numbers count, and have to be the same",
    "order": "lists of the same elements",
    "spelling": "texts that are the same without blanks, in small letters",
    "back_and_forth": "nine of ten lead back to the value before the last change of the cell; twice for each row",
}


def flap_rules() -> str:
    rows = [
        f"| {one.what} | {_OF_FLAPS[name]} | {one.way_out.replace('{column}', 'column')} |"
        for name, one in RULES_OF_FLAPS.items()
    ]
    return "\n".join(["| why | what its changes are | what to do |", "|---|---|---|", *rows])


def _rule_row(rule: Rule) -> str:
    tests = "<br>".join(f"`test_{name}`" for name in rule.tests.split())
    return f"| {rule.text} | {', '.join(rule.sources.split())} | {tests} |"


def sandbox_sources() -> str:
    return "\n".join(["| key | page |", "|---|---|", *(f"| {key} | {page} |" for key, page in SOURCES.items())])


def errors() -> str:
    """The page of all codes, with a heading for each to link to."""
    kinds = {
        "P": "Project, models, commands",
        "D": "Rows of a model",
        "B": "Another process",
        "S": "State",
        "X": "Syncs that did not succeed",
        "R": "Rows that are not in Braze",
    }
    text = (
        "# Errors\n\nEvery error has a code, in brackets behind its message and as `code` in JSON; `retl explain`\n"
        "prints what is on this page, or with `CODE` one of them. A code is never renamed, nor used again.\n"
    )
    for letter, heading in kinds.items():
        text += f"\n## {heading}\n"
        for code, one in CODES.items():
            if code.startswith(letter):
                text += f"\n### {code}\n\n**{one.title}.** {one.meaning} {one.remedy}\n"
    return text


PARTS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "README.md": {"demo": demo, "bench": bench_in_short},
    "docs/reference.md": {
        "modes": modes,
        "file keys": keys_of(File),
        "source keys": keys_of(Source),
        "target keys": keys_of(Target),
        "sync keys": keys_of(Sync),
        "after keys": keys_of(Predecessor),
        "consent keys": keys_of(Consent),
        "ledger keys": keys_of(Ledger),
        "guard keys": keys_of(Guards),
        "incremental keys": keys_of(Incremental),
        "warehouse keys": keys_of(DuckDB),
        "postgres keys": keys_of(Postgres),
        "spark keys": keys_of(Spark),
        "destination keys": keys_of(BrazeConfig),
        "dbt keys": keys_of(Dbt),
        "state keys": keys_of(StatePlace),
        "slack keys": keys_of(Slack),
        "webhook keys": keys_beside(Webhook, Slack),
        "email keys": keys_beside(Email, Slack),
        "heartbeat keys": keys_of(Heartbeat),
        "collect keys": keys_of(Collect),
        "collect source keys": keys_of(CollectSource),
        "collect table keys": keys_of(CollectTable),
        "commands": commands,
        "bench": bench,
    },
    "docs/cli.md": {"reference": cli_reference},
    "docs/limits.md": {
        "of braze": limits.of_braze,
        "requests": limits.requests,
        "rates": limits.rates,
        "of retl": limits.of_retl,
    },
    "docs/jinja.md": {"functions": tables.functions},
    "docs/api-keys.md": {"permissions": tables.permissions},
    "docs/dbt.md": {"macros": macros_of_dbt},
    "docs/tests.md": {
        "unit test keys": keys_of(UnitTest),
        "input keys": keys_of(Input),
        "overrides keys": keys_of(Overrides),
        "macros keys": keys_of(Macros),
        "expect keys": keys_of(Expect),
        "invalid keys": keys_of(ExpectedInvalid),
        "data test keys": keys_of(AcceptedValues),
    },
    "docs/values.md": {"values": values},
    "docs/ecommerce.md": {"schemas": ecommerce_schemas},
    PULL_REQUEST: {
        name: partial(lambda part: walkthrough()[part], name) for name in ("main", "branch", "moved", "apply", "after")
    },
    "docs/sandbox.md": {"endpoints": sandbox_endpoints, "rules": sandbox_rules, "sources": sandbox_sources},
    "docs/verify.md": {"drops": silent_drops},
    "docs/flaps.md": {"rules": flap_rules},
    "docs/orchestrators.md": {
        name: example(name) for name in ("airflow_dag.py", "dagster_assets.py", "prefect_flow.py")
    },
    "docs/schedules.md": {
        name: example(f"deploy/{name}")
        for name in ("retl.service", "retl.timer", "retl-scheduler.service", "cronjob.yaml")
    },
    "docs/install.md": {name: example(f"deploy/{name}") for name in ("Dockerfile", "dockerignore")},
    "docs/ci.md": {"gitlab-ci.yml": pipeline_of_gitlab},
    "docs/dialects.md": {
        "hive": functions_of("hive"),
        "spark": functions_of("spark", beside="hive"),
        "trino": functions_of("trino"),
        "core": functions_of("redshift"),
        "postgres": functions_of("postgres", beside="redshift"),
    },
    "docs/artifacts.md": {
        "manifest": fields_of(Manifest),
        "run-results": fields_of(RunResults),
        "plan": fields_of(PlanArtifact),
    },
}


# What the pictures of the terminal show, one after the other in one shop: first what changes it, which is not shown.
_PICTURES: Mapping[str, tuple[str, Sequence[str]]] = {
    "sync": ("retl seed", ["retl sync --all --create-catalog"]),
    "plan": (
        "sed -i -e s/gold/silver/ -e /c-1008/d -e s/^c-1009,/c-1099,/ seeds/raw_customers.csv && retl seed",
        ["retl plan users_track"],
    ),
    "history": ("retl sync users_track", ["retl history users_track newsletter", "retl status"]),
    "narrow": ("true", ["retl status users_track newsletter"]),
}
_NARROW = {"narrow": 40}  # columns of those that are not as wide as others


@cache
def pictures() -> Mapping[str, str]:
    """Pictures of the terminal, by their names."""
    environ = {**os.environ, "PATH": os.pathsep.join([str(TOOLS), os.environ["PATH"]])}
    found: dict[str, str] = {}
    with _copy_of_the_shop() as folder:
        for name, (before, commands) in _PICTURES.items():
            subprocess.run(before, shell=True, cwd=folder, env=environ, check=True, capture_output=True)
            found[name] = picture(commands, folder, environ, _NARROW.get(name, WIDTH))
    return found


# Pages whose projects are run from top to bottom: see docs/stories.py.
STORIES = (
    "docs/recipes.md",
    "docs/jinja.md",
    "docs/api-keys.md",
    "docs/moving.md",
    "docs/migration.md",
    "docs/metrics.md",
    "docs/security.md",
    "docs/alerts.md",
    "docs/revert.md",
    "docs/tests.md",
)

# Files that are generated as a whole.
WHOLE: Mapping[str, Callable[[], str]] = {
    SCHEMA_FILE: syncs_schema,
    "docs/errors.md": errors,
    **{f"docs/terminal-{name}.svg": partial(lambda one: pictures()[one], name) for name in _PICTURES},
}


def generated(file: str) -> str:
    """The text of `file`, with its generated parts up to date."""
    if file in WHOLE:
        return WHOLE[file]()
    text = (ROOT / file).read_text(encoding="utf-8")
    if file in STORIES:
        text = told(text, _console, ROOT)
    for name, make in PARTS.get(file, {}).items():
        before, opening, rest = text.partition(f"<!-- {name} -->\n")
        _, closing, after = rest.partition(f"<!-- /{name} -->")
        if not (opening and closing):
            raise ValueError(f"{file} has no part <!-- {name} -->")
        text = f"{before}{opening}{make()}\n{closing}{after}"
    return text


if __name__ == "__main__":
    for file in sys.argv[1:] or dict.fromkeys((*PARTS, *STORIES, *WHOLE)):
        (ROOT / file).write_text(generated(file), encoding="utf-8")
