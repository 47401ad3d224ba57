"""Every error has a code, and every code an error: the table in `codes.py` and what the package raises."""

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from docs.generate import errors
from reverse_etl.cli import main
from reverse_etl.codes import CODES, IN_DOUBT, REJECTED, code_of_reason
from reverse_etl.plan import quarantine
from reverse_etl.records import consent, ecommerce, merging, renaming, warnings
from reverse_etl.records.json_text import ITEM_FAULTS, JSON_FAULTS
from tests.shop import Retl, Shop

PACKAGE = Path(__file__).parents[1] / "reverse_etl"
RELEASED = Path(__file__).parent / "data" / "released_codes.txt"  # only ever added to, by `python -m tests.test_codes`
# Which letters an error of a class may have. A Problem that is not raised by itself may have any.
LETTERS = {
    "ProjectError": "P",
    "TemplateProblem": "P",
    "ScheduleProblem": "P",
    "Refused": "P",
    "DataError": "D",
    "BusyError": "B",
    "AtWorkError": "B",
    "StateError": "S",
    "MovedError": "S",
    "StoreError": "S",
    "UnreachableError": "S",
    "OvertakenError": "S",
    "Problem": "PDBSX",
    "problem": "P",  # methods that collect errors
    "_problem": "P",
}
# Made of errors that have their codes.
OF_PROBLEMS = re.compile(
    r"problems|self\.problems|sorted\(problems.*|reader\.errors\(\)|\[\*self\.problems, \*told\]|invalid|said"
)
# Codes that are raised in several files, since it is the same error.
IN_SEVERAL_FILES = {
    *(
        "P002",
        "P004",
        "P005",
        "P006",
        "P008",
        "P009",
        "P010",
        "P013",
        "P014",
        "P015",
        "P016",
        "P037",
        "P038",
        "P043",
        "P051",
        "P052",
        "P055",
        "P057",
        "P058",
        "P061",
        "P063",
        "P065",
        "P070",
        "P073",
        "P074",
        "P076",
        "P079",
        "P080",
    ),
    *(
        "P083",
        "P087",
        "P090",
        "P092",
        "P093",
        "P111",
        "P115",
        "P120",
        "P121",
        "P136",
        "P148",
        "B001",
        "B003",
        "B004",
        "B005",
        "D005",
        "D006",
        "S006",
        "S008",
        "S010",
        "S015",
        "S021",
        "S023",
        "S025",
        "S040",
        "X004",
        "X005",
    ),
}
HOW = (
    'add code="..." to the call: one of reverse_etl/codes.py that means this, or a new one there, with the next free number; '
    "then run `python -m tests.test_codes` and `make docs`"
)


@cache
def sites() -> tuple[tuple[str, ast.Call, str], ...]:
    """All of them, read when a test asks: every worker imports this."""
    return tuple(_sites())


def _sites() -> Iterator[tuple[str, ast.Call, str]]:
    """(file:line, call, name of what is called) of every error that the package makes."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.is_relative_to(PACKAGE / "sandbox") or (path.name == "errors.py" and path.parent == PACKAGE):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in LETTERS and not (node.args and OF_PROBLEMS.fullmatch(ast.unparse(node.args[0]))):
                    yield f"{path.relative_to(PACKAGE).as_posix()}:{node.lineno}", node, name


def codes_of(call: ast.Call) -> list[str] | None:
    """The codes that a call may have; None if it has none, [] if it passes on that of another error."""
    given = [word.value for word in call.keywords if word.arg == "code"] or call.args[3:4]
    if not given:
        return None
    if ast.unparse(given[0]).rpartition(".")[2] == "code":
        return []
    return [node.value for node in ast.walk(given[0]) if isinstance(node, ast.Constant)]


@cache
def used() -> Mapping[str, set[str]]:
    """The files of each code."""
    found: dict[str, set[str]] = defaultdict(set)
    for where, call, _ in sites():
        for code in codes_of(call) or ():
            found[code].add(where.partition(":")[0])
    return found


def test_every_error_has_a_code():
    assert len(sites()) > 250
    assert [where for where, call, _ in sites() if codes_of(call) is None] == [], HOW


def test_every_code_of_an_error_is_in_the_table_and_of_its_class():
    unknown = [(where, code) for where, call, _ in sites() for code in codes_of(call) or () if code not in CODES]
    assert unknown == [], HOW
    others = [
        (where, code) for where, call, name in sites() for code in codes_of(call) or () if code[0] not in LETTERS[name]
    ]
    assert others == [], "the letter of a code is that of the class of the error: see reverse_etl/codes.py"


def test_every_code_is_used():
    assert [code for code in CODES if code[0] != "R" and code not in used()] == []


def test_a_code_means_one_error():
    """In one file; or it is listed here, because it means the same in several."""
    assert {code for code, files in used().items() if len(files) > 1} == IN_SEVERAL_FILES


def test_table_is_in_order_and_its_titles_differ():
    assert list(CODES) == sorted(CODES, key=lambda code: ("PDBSXR".index(code[0]), code))
    assert all(re.fullmatch(r"[PDBSXR]\d{3}", code) for code in CODES)
    assert len({one.title for one in CODES.values()}) == len(CODES)
    assert all(
        one.meaning.endswith(".") and one.remedy.endswith(".") and one.title[-1] != "." for one in CODES.values()
    )


def test_released_codes_stay():
    """Programs and runbooks refer to them."""
    assert [code for code in RELEASED.read_text().split() if code not in CODES] == []
    assert [code for code in CODES if code not in RELEASED.read_text().split()] == [], (
        "run `python -m tests.test_codes`"
    )


FILES_WITH_RULES = ("rules.py", "values.py", "warnings.py", "ecommerce.py", "merging.py", "renaming.py")


def reasons() -> Iterator[str]:
    """The reasons of all rules, with 1 for what is worked out."""
    files = [PACKAGE / "records" / name for name in FILES_WITH_RULES]
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Rule":
            yield from texts(node.args[2])
        if isinstance(node, ast.Assign):
            for target in node.targets:
                names = [getattr(part, "id", "") for part in getattr(target, "elts", [target])]
                values = getattr(node.value, "elts", [node.value])
                yield from (
                    text
                    for name, value in zip(names, values, strict=False)
                    if name == "reason"
                    for text in texts(value)
                )
    yield from (reason for faults in (JSON_FAULTS, ITEM_FAULTS) for reason, _ in faults.values())
    yield from (reason for _, reason, _ in ecommerce.SHAPES.values())
    yield from (consent.ENDS, consent.IS_NULL, warnings.IS_JSON, merging.KEPT_IS_GONE, renaming.IN_A_CHAIN)
    yield quarantine.reason_of("now()").split("'")[1] + "1"


def texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.IfExp):
        yield from (*texts(node.body), *texts(node.orelse))
    elif isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "1" for part in node.values)


def test_every_reason_of_an_invalid_row_has_one_code():
    found = {
        reason: [code for code, one in CODES.items() if one.reason and re.fullmatch(one.reason, reason)]
        for reason in reasons()
    }
    assert len(found) > 25
    assert {reason: codes for reason, codes in found.items() if len(codes) != 1} == {}, (
        "add the reason to a code with R of reverse_etl/codes.py"
    )
    of_rules = {code for code in CODES if code[0] == "R"} - {REJECTED, IN_DOUBT}
    assert {code for codes in found.values() for code in codes} == of_rules
    assert code_of_reason("of another version") is None


def test_page_has_every_code():
    assert re.findall(r"^### (\w+)$", errors(), re.MULTILINE) == list(CODES)


def test_code_is_shown_in_text_in_json_and_in_the_log(shop: Shop, retl: Retl, capsys: pytest.CaptureFixture[str]):
    sql = "SELECT 'u1' AS external_id, repeat('x', 300) AS bio"
    shop.sync("it", sql, strict=True)
    with pytest.raises(SystemExit):
        run(shop, "sync", "it")
    assert " nothing was sent [X001]\n" in capsys.readouterr().err
    (result,) = json.loads(retl("sync", "it", "--output", "json", folder=shop.folder).out)
    assert [error["code"] for error in result["errors"]] == ["X001"]
    assert [row["code"] for row in (*result["invalid_rows"], *result["invalid_reasons"])] == ["R006", "R006"]
    (row,) = json.loads(retl("rejects", "it", "--output", "json", folder=shop.folder).out)
    assert row["code"] == "R006"
    assert "  R006  is longer than 255 characters  " in retl("rejects", "it", folder=shop.folder).out
    (kept,) = json.loads((shop.folder / "target" / "run_results.json").read_text())["results"]
    assert [error["code"] for error in kept["errors"]] == ["X001"]
    logged = [
        json.loads(line) for line in retl("--log-format", "json", "sync", "it", folder=shop.folder).err.splitlines()
    ]
    assert [line["code"] for line in logged if line["event"] == "error"] == ["X001"]


def run(shop: Shop, *arguments: str) -> None:
    """`retl` as it is, codes and all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shop.folder)
        patch.setenv("BRAZE_API_KEY", shop.environ["BRAZE_API_KEY"])
        patch.setattr("sys.argv", ["retl", *arguments])
        main()


def test_codes_are_explained(retl: Retl):
    assert retl("explain", "P019").out == (
        "P019: sync that deletes users\n\nA sync that deletes users, or items of a catalog, must say so: deleting users cannot be undone.\n"
        "If it is intended, add allow_destructive: true to the sync.\n"
    )
    assert retl("explain", "[p019]").out == retl("explain", "P019").out
    assert [line.split()[0] for line in retl("explain").out.splitlines()] == ["code", *CODES]
    assert [one["code"] for one in json.loads(retl("explain", "--output", "json").out)] == list(CODES)
    assert retl("explain", "P0019").err == 'unknown code "P0019"\n  hint: did you mean "P019"?\n'


if __name__ == "__main__":
    RELEASED.write_text(
        "\n".join([*RELEASED.read_text().split(), *(c for c in CODES if c not in RELEASED.read_text())]) + "\n"
    )


@pytest.mark.parametrize("typed", ["what", "sync --nope", "sync --ful", "show", "sync --threads x"])
def test_command_line_that_is_not_valid_has_a_code(typed: str, capsys: pytest.CaptureFixture[str]):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["retl", *typed.split()])
        with pytest.raises(SystemExit) as ended:
            main()
    assert (ended.value.code, capsys.readouterr().err.rstrip().endswith(" [P112]")) == (2, True)
