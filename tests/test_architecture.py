"""Imports run downward only, and what is pure stays pure."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "reverse_etl"
# Lower layers first; a module imports from layers below its own, or its own if that is said.
LAYERS = [
    {"errors", "sql"},
    {"talk"},
    {"modes", "templates", "positions", "spec_types", "schedule", "head"},
    {"spec_tests"},
    {"spec", "limits"},
    {"spec_reader", "dialects", "dbt", "graph", "guards", "values"},
    {"models", "columns", "given", "selection", "spec_schema"},
    {"expressions"},
    {"rules"},
    {"mapping"},
    {"diff", "data_tests", "journal", "lock", "private", "braze", "waiting", "signals", "state_store"},
    {"watermark"},
    {"engines", "fold", "sender", "relay"},
    {"state_file", "project", "shared_state"},
    {"state", "plan", "exposures"},
    {"opening", "channel", "interrupts", "comparison", "due"},
    {"saved_plan"},
    {"outcome", "memory"},
    {"run"},
    {"preview", "several", "unit_tests"},
    {"apply", "scheduler"},
    {"report"},
    {"progress", "debug", "report_tests", "results", "artifacts", "history", "starter"},
    {"logged", "logged_run"},
    {"api"},
    {"cli"},
    {"__main__", "pytest_plugin"},
]
PURE = {
    *("errors", "templates", "positions", "modes", "spec", "spec_reader", "selection", "guards", "limits", "schedule"),
    *("graph", "spec_schema", "models", "dialects", "dbt", "columns", "values", "expressions", "rules"),
    *("mapping", "diff", "head"),
    *("spec_types", "spec_tests", "data_tests", "given", "comparison"),
}
IMPURE = {"os", "time", "random", "socket", "subprocess", "duckdb", "requests", "urllib3", "typer", "rich", "threading"}


def modules() -> dict[str, list[Path]]:
    """The files of each module; a folder is one module, save the sandbox, which stands beside all."""
    found = {path.stem: [path] for path in PACKAGE.glob("*.py") if path.stem != "__init__"}
    folders = {path.parent for path in PACKAGE.glob("*/*.py")} - {PACKAGE / "sandbox", PACKAGE / "sql"}
    return {**found, **{folder.name: sorted(folder.glob("*.py")) for folder in folders}}


def imports(*paths: Path) -> set[str]:
    """What files import, wherever they do: `reverse_etl.x` as `x`, others by their first name with a dot before."""
    names = set()
    for node in (node for path in paths for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))):
        found = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in found:
            first, *rest = name.split(".")
            names.add(rest[0] if first == "reverse_etl" and rest else f".{first}")
    return names


def test_every_module_has_its_layer():
    assert {"sql", *modules()} == set().union(*LAYERS)


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_run_downward_only(name: str):
    layer = next(number for number, names in enumerate(LAYERS) if name in names)
    below = set().union(*LAYERS[:layer])
    own = {imported for imported in imports(*modules()[name]) if not imported.startswith(".")}
    own -= {"sandbox", name}
    assert own - below == set()


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_modules_do_no_input_or_output(name: str):
    assert {imported.removeprefix(".") for imported in imports(*modules()[name])} & IMPURE == set()


def test_sandbox_and_what_it_tests_do_not_know_each_other():
    """Two readings of Braze's pages check each other only as long as neither copies from the other."""
    for path in (PACKAGE / "sandbox").glob("*.py"):
        assert {name for name in imports(path) if not name.startswith(".")} <= {"sandbox"}
    assert {name for name, paths in modules().items() if "sandbox" in imports(*paths)} == {
        "channel",
        "cli",
        "pytest_plugin",
    }


def test_states_of_a_project_are_opened_where_its_target_keeps_them():
    """`open_state` alone knows nothing of `state.path`: who opens a folder of a project with it works on another state."""
    callers = {name for name, paths in modules().items() if any("open_state(" in path.read_text() for path in paths)}
    assert callers == {"opening", "unit_tests"}  # unit tests have a folder of their own
