"""Imports run downward only, and what is pure stays pure."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from reverse_etl.sql.database import connect

PACKAGE = Path(__file__).parents[1] / "reverse_etl"
# The rooms of the house, lowest first; a room imports itself and rooms before it.
ORDER = [
    "redaction",
    "errors",
    "codes",
    "sql",
    "words",
    "masking",
    "network",
    "braze",
    "system",
    "project",
    "records",
    "delivery",
    "starter",
    "plan",
    "shared_state",
    "engines",
    "ledger",
    "state",
    "collect",
    "runs",
    "testing",
    "report",
    "alerts",
    "results",
    "cli",
    "api",
    "__main__",
]
APART = ["sandbox", "pytest_plugin"]  # each imports itself, and the second the first
PURE = {
    *("redaction", "errors", "codes", "words", "masking", "sql.types", "network.proxies"),
    *(
        "braze.modes",
        "braze.ecommerce",
        "braze.subscriptions",
        "braze.data_types",
        "braze.answers",
        "braze.rate_limit_headers",
    ),
    *(
        "project.again",
        "project.spec",
        "project.fields",
        "project.spec_tests",
        "project.cron",
        "project.json_schema",
        "project.reader",
    ),
    *("project.labels", "project.yaml_places", "project.jinja", "project.models", "project.dbt_manifest"),
    *(
        "project.environment",
        "project.template_uses",
        "project.model_config",
        "project.dbt_packages",
        "project.spec_files",
        "project.spec_checks",
        "project.spec_mistakes",
        "project.spec_secrets",
        "project.spec_targets",
    ),
    *(
        f"project.dialects.{name}"
        for name in ("row", "names", "parse", "rewrite", "kinds", "clauses", "common", "spark")
    ),
    *(f"project.dialects.{name}" for name in ("td", "patterns", "zones", "intervals", "digdag", "translate")),
    *(f"project.dialects.hive.{name}" for name in ("table", "casts", "times", "texts", "values")),
    *(f"project.dialects.trino.{name}" for name in ("table", "casts", "times", "texts", "values", "zones")),
    *("project.spec_collect", "project.collected", "collect.persons", "collect.contract"),
    *("project.graph", "project.lock_file", "project.selection", "project.lineage"),
    *(
        "records.layout",
        "records.attributes",
        "records.computed",
        "records.consent",
        "records.documents",
        "records.identity",
        "records.ecommerce",
        "records.existing",
        "records.expressions",
        "records.mapping",
        "records.json_text",
        "records.rules",
    ),
    *("delivery.batches", "delivery.pacing", "delivery.retry"),
    *("plan.tables", "plan.actions", "plan.guards", "plan.writers", "plan.names", "plan.data_tests"),
    *("project.spec_alerts", "alerts.decide", "alerts.messages"),
    *("ledger.lines", "ledger.reverting", "ledger.flapping"),
    *("shared_state.head", "shared_state.names", "engines.engine", "engines.duckdb.diff"),
    *(f"engines.{name}" for name in ("postgres.types", "postgres.errors", "spark.types", "spark.errors")),
    *("testing.fixtures", "testing.comparison"),
    *("runs.site_facts", "report.site.packed"),
}
IMPURE = {"os", "time", "random", "socket", "subprocess", "duckdb", "requests", "urllib3", "typer", "rich", "threading"}


def files(room: str) -> list[Path]:
    """The files of a room: of a package, or the one module."""
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{room}.py"]


def name_of(path: Path) -> str:
    """`reverse_etl/plan/guards.py` as `plan.guards`, a package by its own name."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """What a file imports, wherever it does: `reverse_etl.x.y` as `x.y`, others by their first name with a dot before."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        found = []
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            is_room = (PACKAGE.parent / module.replace(".", "/")).is_dir() and module.startswith("reverse_etl")
            found = [f"{module}.{alias.name}" for alias in node.names] if is_room else [module]
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        for name in found:
            first, *rest = name.split(".")
            names.add(".".join(rest) if first == "reverse_etl" and rest else f".{first}")
    return names


def rooms_of(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names if not name.startswith(".")}


def test_the_page_about_rooms_lists_them_in_their_order():
    """From the top room down: who reads it meets what they type first."""
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.split("## Rooms")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE) == ORDER[::-1]


def test_every_file_that_the_page_names_is_there():
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = "|".join([*ORDER, *APART])
    named = set(re.findall(rf"(?<!tests/)\b(?:{rooms})/[\w/]*(?:\.(?:py|sql))?", page))
    assert len(named) >= 40
    assert {name for name in named if not (PACKAGE / name).exists()} == set()


def test_every_room_has_its_place():
    found = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {*ORDER, *APART} == found - {"__init__"}


@pytest.mark.parametrize("room", ORDER)
def test_imports_run_downward_only(room: str):
    imported = rooms_of(set().union(*map(imports, files(room))))
    assert imported - {room, "sandbox"} - set(ORDER[: ORDER.index(room)]) == set()


def test_no_circle_of_files():
    paths = {name_of(path): path for path in PACKAGE.rglob("*.py")}
    graph = {name: imports(path) & paths.keys() - {name} for name, path in paths.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the files


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_modules_do_no_input_or_output(name: str):
    path = PACKAGE / Path(*name.split(".")).with_suffix(".py")
    assert {imported.removeprefix(".") for imported in imports(path)} & IMPURE == set()


def test_time_of_day_is_asked_in_one_place():
    """So a test, or a run that stands for another time, has one clock to set. The sandbox keeps its own time."""
    asks = re.compile(r"datetime\.(utc)?now\(|\btime\.time\(|date\.today\(")
    found = {name_of(path) for path in PACKAGE.rglob("*.py") if asks.search(path.read_text())}
    assert {name for name in found if not name.startswith("sandbox.")} == {"system.clock"}


# Modules, and names of os, that Windows or macOS lacks.
NOT_EVERYWHERE = {".fcntl", ".resource", ".msvcrt", ".pwd", ".grp", ".termios", ".pty", ".syslog"}
NOT_EVERYWHERE_IN_OS = re.compile(
    r"\bos\.(fdatasync|pread|pwrite|O_NOFOLLOW|O_DIRECTORY|O_BINARY|getuid|geteuid|getgid|fork|kill|killpg|setsid|chown"
    r"|mkfifo|statvfs|sched_getaffinity|posix_fadvise|sync|uname|getloadavg)\b"
)
ASKS_FIRST = {"runs.origin", "cli.here", "collect.server"}  # whether the system has it


def test_what_some_systems_lack_is_in_one_place():
    paths = {name_of(path): path for path in PACKAGE.rglob("*.py")}
    text = {name: path.read_text(encoding="utf-8") for name, path in paths.items()}
    found = {name for name, path in paths.items() if imports(path) & NOT_EVERYWHERE}
    found |= {name for name in paths if NOT_EVERYWHERE_IN_OS.search(text[name])}
    assert found == {"system.platforms", *ASKS_FIRST}


def test_a_package_imports_nothing_by_itself():
    """So `retl --help` pays for no more than it shows; the sandbox has a face of its own, and cli its commands."""
    for path in PACKAGE.glob("*/__init__.py"):
        if path.parent.name not in ("sandbox", "cli", "starter"):
            assert imports(path) == set(), path


def test_sandbox_and_what_it_tests_do_not_know_each_other():
    """Two readings of Braze's pages check each other only as long as neither copies from the other."""
    for path in files("sandbox"):
        assert rooms_of(imports(path) - {"system.platforms"}) <= {"sandbox"}
    assert {room for room in ORDER for path in files(room) if "sandbox" in rooms_of(imports(path))} == {
        "delivery",
        "cli",
    }


def test_states_of_a_project_are_opened_where_its_target_keeps_them():
    """`open_state` alone knows nothing of `state.path`: who opens a folder of a project with it works on another state."""
    callers = {name_of(path) for path in PACKAGE.rglob("*.py") if "open_state(" in path.read_text(encoding="utf-8")}
    renamed = {"state.moving", "state.orphans"}  # they open what has, or had, another name
    own = {"state.copied", "testing.unit_tests"}  # copies and unit tests have folders of their own
    moved = {"state.rows_moving"}  # it opens a state whose rows are elsewhere than its target says
    assert callers == {"state.opening"} | own | renamed | moved


def test_duckdb_is_opened_in_one_place_where_it_downloads_nothing():
    places = [str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if "duckdb.connect(" in path.read_text()]
    assert places == ["sql/database.py"]
    with connect() as connection:
        assert connection.execute("SELECT current_setting('autoinstall_known_extensions')").fetchall() == [(False,)]
