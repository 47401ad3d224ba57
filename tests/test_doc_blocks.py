"""Every code block of a page is run or read by a test, or is in a list here with the reason why it is not.

Projects of pages are run from top to bottom: see docs/stories.py. Here: what they do not run.
"""

import ast
import configparser
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import click
import duckdb
import pytest
import yaml
from jinja2 import Environment, Undefined
from typer.main import get_command

from docs.generate import PARTS, STORIES, WHOLE
from docs.stories import STARTS, commands_in, file_in
from reverse_etl.cli import app
from reverse_etl.errors import ProjectError
from reverse_etl.project.reader import Surroundings, read_spec
from reverse_etl.project.spec import File
from tests.test_docs import PAGES, text_of

# Pages whose blocks a test runs as they are on the page, apart from those of docs/stories.py.
RUN_BY: Mapping[str, str] = {
    "docs/consent.md": "tests/collect/test_consent_page.py",
    "docs/ecommerce.md": "tests/records/test_ecommerce.py",
}
# Blocks that no test runs or reads, by page and first line, and why.
_DRAWN = "a drawing"
_PRINTED = "an example of what is printed: its rows are too many for a test of the page"
NOT_RUN: Mapping[tuple[str, str], str] = {
    ("docs/alerts.md", "retl, target prod: erase blocked, users failed"): "a message: tests/alerts compares messages",
    ("docs/architecture.md", "models/users.sql ─ project/models.py ──> compiled SQL"): _DRAWN,
    ("docs/architecture.md", "cli/sync.py     options -> Options; selectors -> syncs"): _DRAWN,
    ("docs/attributes.md", "version: 1"): "braze.lock.yml: tests/cli and tests/project read and write such files",
    (
        "docs/catalogs.md",
        'syncs.yml:9:14: products: catalog "products" has no field tags [X013]',
    ): "an error: tests/runs compares it",
    (
        "docs/ci.md",
        "      - uses: actions/cache@v5",
    ): "a step of GitHub's, to put into the workflow that tests/starter runs",
    (
        "docs/dbt.md",
        "shop/                   the dbt project       dbt_project.yml  profiles.yml  models/  target/manifest.json",
    ): _DRAWN,
    (
        "docs/dialects.md",
        "models/orders.sql:4:10: hive: td_ip_to_country_code() cannot be translated: it needs MaxMind's database",
    ): "an error: tests/project/test_dialects.py compares such messages",
    ("docs/engines.md", "CREATE ROLE retl LOGIN PASSWORD '...';"): "typed by the owner of a Postgres server",
    ("docs/engines.md", "model ──┐                      ┌── rows that may differ ──────────────┐"): _DRAWN,
    ("docs/flaps.md", "$ retl flaps"): _PRINTED,
    (
        "docs/ledger.md",
        ".retl/<target>/<sync>/ledger/<run>.parquet             one line for each cell that changed",
    ): _DRAWN,
    ("docs/ledger.md", "$ retl why ann@x.example tier --show-values"): _PRINTED,
    (
        "docs/reference.md",
        "syncs.yml   syncs/*.yml   models/*.sql   macros/*.sql   seeds/*.csv   tests/fixtures/*   .env   syncs.schema.json",
    ): _DRAWN,
    ("docs/sandbox.md", "// Node: start it once, before the tests"): "needs Node.js: `make test-clients` does the same",
    ("docs/state.md", "<path>/<target>/<sync>/"): _DRAWN,
    ("docs/terminal.md", "users: retrying 3 requests: Braze returned 503, next attempt in 12 s"): (
        "lines of progress: tests/report/test_progress.py compares them"
    ),
    ("docs/verify.md", "canary: 14 rows sent, which have all kinds of values: reading back"): _PRINTED,
    (
        "docs/verify.md",
        "users: compared 500 of 23,558 rows with Braze (--seed 419273): 497 are there as sent",
    ): _PRINTED,
}


class Block(NamedTuple):
    page: str
    line: int
    language: str
    text: str

    @property
    def first(self) -> str:
        return self.text.partition("\n")[0]


def blocks_of(page: str) -> Iterator[Block]:
    text = text_of(page)
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(page, text[: match.start()].count("\n") + 2, match[1], match[2])


def is_generated(block: Block) -> bool:
    """Whether it is in a part that is generated, and compared."""
    text = text_of(block.page)
    return any(
        text.index(f"<!-- {name} -->") < text.index(block.text) < text.index(f"<!-- /{name} -->")
        for name in PARTS.get(block.page, {})
    )


def is_told(block: Block) -> bool:
    """Whether it is a file or a command of a project that is run from top to bottom."""
    if block.page not in STORIES:
        return False
    before = text_of(block.page).splitlines()[: block.line - 1]
    is_inside = any(start in before for start in STARTS)
    return is_inside and (block.language == "console" or file_in(block.text) is not None)


ALL = [block for page in PAGES if page not in WHOLE and page != "CHANGELOG.md" for block in blocks_of(page)]
RUN = [block for block in ALL if block.page in RUN_BY or is_told(block) or is_generated(block)]
OTHERS = [block for block in ALL if block not in RUN and (block.page, block.first) not in NOT_RUN]


def ids(block: Block) -> str:
    return f"{block.page}:{block.line}"


# --- how they are read -----------------------------------------------------------------------------------------------

TARGET = {
    "warehouse": {"type": "duckdb", "path": "warehouse.duckdb"},
    "destination": {"type": "braze", "endpoint": "sandbox"},
}
SYNC = {"name": "tiers", "model": "tiers", "mode": "users_track", "track_record_type": "attributes"}
OF_TARGET, OF_UNIT_TEST = {"warehouse", "destination", "state"}, {"overrides", "given", "expect"}


class AnyVariable(dict[str, str]):
    """An environment in which every variable is set."""

    def __contains__(self, name: object) -> bool:
        return True

    def __getitem__(self, name: str) -> str:
        return "https://rest.iad-01.braze.com"


def of_yaml(text: str) -> None:
    """Load it: a whole syncs.yml; top-level keys of one; syncs; or keys of a sync, a target, a unit test."""
    data = yaml.safe_load(text)
    if isinstance(data, list):
        data = {"syncs": data}
    elif set(data) <= OF_TARGET:
        data = {"targets": {"sandbox": data}}
    elif set(data) <= OF_UNIT_TEST:
        data = {"unit_tests": [{"name": "one", "sync": "tiers", "expect": {"records": []}, **data}]}
    elif not set(data) & set(File.model_fields):
        data = {"syncs": [data]}
    syncs = [one if "mode" in one else {**SYNC, **one} for one in data.get("syncs", [])]
    named = [before for sync in syncs for before in _before(sync)]
    named += [one["sync"] for one in data.get("unit_tests", [])]
    known = [one["name"] for one in syncs]
    syncs += [{**SYNC, "name": name} for name in dict.fromkeys(named) if name not in known]
    targets = {name: {**TARGET, **target} for name, target in data.get("targets", {}).items()}
    targets = targets or {"sandbox": TARGET, "prod": TARGET}
    whole = {"version": 1, **data, "targets": targets, "syncs": syncs or [SYNC]}
    models = {sync.setdefault("model", "tiers") for sync in whole["syncs"]}
    for target in targets:
        read_spec(yaml.safe_dump(whole, sort_keys=False), models, Surroundings(AnyVariable(), target=target))


def _before(sync: Mapping[str, Any]) -> list[str]:
    after = sync.get("after", [])
    return [one if isinstance(one, str) else one["sync"] for one in (after if isinstance(after, list) else [after])]


class Anything(Undefined):
    """What a template refers to, as a name of SQL."""

    def __str__(self) -> str:
        return "anything"

    def __call__(self, *_: Any, **__: Any) -> "Anything":
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def of_sql(text: str) -> None:
    """Parse it, with names in the place of its Jinja."""
    template = Environment(undefined=Anything, autoescape=False).from_string(text)
    sql = template.render(config=lambda **_: "")
    if sql.strip():
        duckdb.extract_statements(sql)


def of_json(text: str) -> None:
    json.loads(text)


def of_python(text: str) -> None:
    ast.parse(text)


@cache
def group() -> Any:
    return get_command(app)


def of_shell(text: str) -> None:
    """Commands of retl exist, with their options. Others are not looked at."""
    lines = text.replace("\\\n", " ").splitlines()
    for line in lines:
        for part in re.split(r"&&|\|\||[|;]", re.sub(r"\s#\s.*$", "", line)):
            words = _words(part)
            if "retl" in words[:6]:
                parse(words[words.index("retl") + 1 :])


def _words(line: str) -> list[str]:
    return re.findall(r"""(?:"[^"]*"|'[^']*'|[^\s"'])+""", line)


def parse(words: list[str]) -> None:
    """Fail if a command, or one of its options, is not there."""
    command, named = group(), []
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        rest = [word for word in words if not word.startswith("-")]
        if not rest or any(word in ("--help", "--version", "--install-completion") for word in words):
            return
        options = words[: words.index(rest[0])]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in options if word.startswith("-")} <= known, f"retl {' '.join(words)}"
        skipped = [word for option, word in pairwise(words) if option in ("--log-format", "--output")]
        name = next(word for word in rest if word not in skipped)
        assert name in command.commands, f"retl has no command {' '.join([*named, name])}"
        words = words[words.index(name) + 1 :]
        command, named = command.commands[name], [*named, name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    used = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert used <= known | {"--help"}, f"retl {' '.join(named)} has no {used - known}"


def of_ini(text: str) -> None:
    """Sections and keys, with commands of retl in units of systemd."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)
    for section in parser.values():
        of_shell(section.get("ExecStart", ""))


def of_console(text: str) -> None:
    of_shell("\n".join(commands_in(text)))


READ: Mapping[str, Callable[[str], None]] = {
    "yaml": of_yaml,
    "sql": of_sql,
    "json": of_json,
    "python": of_python,
    "sh": of_shell,
    "console": of_console,
    "ini": of_ini,
}


@pytest.mark.parametrize("block", [block for block in OTHERS if block.language in READ], ids=ids)
def test_block_is_what_retl_reads(block: Block):
    READ[block.language](block.text)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in WHOLE and page != "CHANGELOG.md"])
def test_commands_in_sentences_are_there(page: str):
    text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"`(retl [a-z][^`]*)`", text):
        of_shell(re.sub(r"\s+", " ", span).replace(" ...", " "))


@pytest.mark.parametrize(
    "command", ["retl go", "retl sync --faster", "retl state seed users", "cd x && retl plan --apply"]
)
def test_command_that_is_not_there_is_found(command: str):
    with pytest.raises(AssertionError):
        of_shell(command)


@pytest.mark.parametrize(
    "text", ["syncs: [{name: a, colour: red}]", "guards: {max_change: 5}", "alerts: [{type: fax}]"]
)
def test_key_that_is_not_there_is_found(text: str):
    with pytest.raises(ProjectError):
        of_yaml(text)


def test_every_other_block_is_listed():
    assert [ids(block) for block in OTHERS if block.language not in READ] == []


def test_nothing_is_listed_that_is_not_there():
    there = {(block.page, block.first) for block in ALL}
    assert set(NOT_RUN) - there == set()
    assert [test for page, test in RUN_BY.items() if Path(page).name not in text_of(test)] == []
