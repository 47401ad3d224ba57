"""YAML and Jinja in bounded time and memory, and what YAML takes for something else than it looks like."""

import itertools
import sys
from pathlib import Path

import pytest

from reverse_etl.errors import Location, ProjectError
from reverse_etl.project.jinja import environment_variables, render
from reverse_etl.project.yaml_places import MOST_CHARACTERS, parse_yaml
from tests.shop import Retl, Shop, edit

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30)
)
DEEP = ":101: values are nested more than 100 levels deep\n  hint: write flatter values"
QUOTE = "\n  hint: quote it, if it is meant as a string"
WRITE_OUT = "\n  hint: write out what is meant"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a: &a {b: *a}", f's.yml:1:11: the alias "*a" is inside of what it refers to{WRITE_OUT}'),
        ("a: &a [1, [*a]]", f's.yml:1:12: the alias "*a" is inside of what it refers to{WRITE_OUT}'),
        ("&a {<<: *a}", f's.yml:1:9: the alias "*a" is inside of what it refers to{WRITE_OUT}'),
        ("[" * 200_000, f"s.yml:1{DEEP}"),
        ("[" * 200 + "]" * 200, f"s.yml:1{DEEP}"),
        ("".join(" " * n + "a:\n" for n in range(150)), f"s.yml:101:101{DEEP[4:]}"),
        (LAUGHS, f"s.yml:5:45: the aliases of this file make more than 100,000 copies of values{WRITE_OUT}, or generate it"),
        ("a: " + "1" * 6000, f"s.yml:1:4: invalid YAML: this is not a valid integer{QUOTE}"),
        ("a: 0x" + "f" * 6000, f"s.yml:1:4: invalid YAML: this is not a valid integer{QUOTE}"),
        ("a: [" + "1" * 6000 + ".0]", f"s.yml:1:5: invalid YAML: this is not a valid number{QUOTE}"),
        ("a: 2026-99-99", f"s.yml:1:4: invalid YAML: this is not a valid date or time{QUOTE}"),
        ("? !!timestamp NO\n: 1", f"s.yml:1:3: invalid YAML: this is not a valid date or time{QUOTE}"),
        ("a: {b: !!bool maybe}", f"s.yml:1:8: invalid YAML: this is not a valid boolean{QUOTE}"),
        ("a: !!timestamp x", f"s.yml:1:4: invalid YAML: this is not a valid date or time{QUOTE}"),
        ('a: "\\ud800"', f"s.yml:1:4: invalid YAML: this is not a valid string{QUOTE}"),
        ("x" * (MOST_CHARACTERS + 1), "s.yml: the file has more than 10,000,000 characters\n  hint: split it"),
    ],
    ids=lambda value: value[:12],
)  # fmt: skip
def test_yaml_that_has_no_end_or_no_value_is_an_error_with_its_line(text: str, error: str):
    calls = itertools.count()
    before = sys.getprofile()
    sys.setprofile(lambda *_: next(calls) and None)
    try:
        with pytest.raises(ProjectError) as raised:
            parse_yaml(text, "s.yml")
    finally:
        sys.setprofile(before)
    assert str(raised.value) == error
    assert next(calls) < 1_000_000  # and not the number of atoms in the universe


@pytest.mark.parametrize("text", ["a:\n\tb: 1", "a:\n  b: 1\n\tc: 2", "a:\n  - 1\n \t- 2"])
def test_tab_that_indents_is_named(text: str):
    with pytest.raises(ProjectError) as raised:
        parse_yaml(text, "s.yml")
    assert raised.value.problems[0].hint == (
        "write spaces in the place of the tab that this line begins with: YAML is indented with spaces only"
    )


def test_aliases_that_end_are_what_they_refer_to():
    value, _, problems = parse_yaml("a: &a {b: 1}\nc: [*a, {<<: *a, d: 2}]", "s.yml")
    assert (value, problems) == ({"a": {"b": 1}, "c": [{"b": 1}, {"b": 1, "d": 2}]}, [])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{{ 'x' * 10 ** 12 }}", "m.sql:1: Jinja: the result of `*` is too large\n  hint: use a smaller number"),
        ("\n{{ 9 ** 99999999 }}", "m.sql:2: Jinja: the result of `**` is too large\n  hint: use a smaller number"),
        ("{{ [0] * 10 ** 12 }}", "m.sql:1: Jinja: the result of `*` is too large\n  hint: use a smaller number"),
        (
            "{% for i in range(99999) %}{% for j in range(9999) %}{{ 'x' * 1000 }}{% endfor %}{% endfor %}",
            "m.sql: Jinja: the rendered text has more than 50,000,000 characters\n"
            "  hint: write a smaller loop, or a table in SQL",
        ),
        (
            "{{ env_var('X') }}",
            "m.sql: Jinja: the rendered text is not Unicode\n"
            "  hint: look for \\ud800 to \\udfff in it, and for variables that are not UTF-8",
        ),
    ],
)
def test_jinja_that_makes_too_much_or_no_text_is_an_error(text: str, error: str):
    with pytest.raises(ProjectError) as raised:
        render(text, {"env_var": environment_variables({"X": "\udcff"})}, Location("m.sql"))
    assert str(raised.value) == error
    assert render("{{ 'x' * 3 }}{{ 2 ** 8 }}{{ 1.5 * 2 }}", {}, Location("m.sql")) == "xxx2563.0"


def test_value_that_yaml_takes_for_something_else_is_a_warning_with_its_line(retl: Retl, shop: Shop):
    test = {"accepted_values": {"column": "country", "values": ["XX"]}}
    shop.sync("it", "SELECT 'u' AS external_id, 'no' AS country", data_tests=[test])
    text = "vars: {country: NO, zip: 01234, t: 12:30:00, n: 1_000, is: true, ok: 'NO', x: 0x1f, f: 1.50, d: 2026-11-23, a: 1}"
    edit(shop.folder / "syncs.yml", "version: 1", f"version: 1\n{text}")
    edit(shop.folder / "syncs.yml", "XX", "on")
    found = retl("ls", "it", "--vars", "{a: off}", folder=shop.folder)
    hints = [("NO", "false"), ("01234", "668"), ("12:30:00", "45000"), ("1_000", "1000"), ("on", "true")]
    said = [line.split(": ", 2) for line in found.err.splitlines()]
    assert found.code == 0
    assert said[0] == ["warning", "--vars:1:5", '"off" is read as false, because it has no quotes']
    assert [line[2] for line in said[2:12:2]] == [f'"{a}" is read as {b}, because it has no quotes' for a, b in hints]
    assert [line[1] for line in said[3:12:2]] == [
        f'write "{a}" in quotes if it is meant as a string, or {b}' for a, b in hints
    ]
    assert said[2][1] == "syncs.yml:2:17"
    edit(shop.folder / "syncs.yml", "model: it", "model: NO")
    error = '"model" in sync "it" must be a string\n  hint: put it in quotes: "NO"\n'
    assert retl("ls", folder=shop.folder).err.endswith(error)


def test_vars_may_have_keys_that_json_does_not_have(shop: Shop, tmp_path: Path):
    shop.sync("it", "SELECT 'u{{ var('x')[2026] }}' AS external_id, 1 AS n")
    edit(shop.folder / "syncs.yml", "version: 1", "version: 1\nvars: {x: {2026: 7, b: 1, 2026-11-23: 3}}")
    assert shop.project().fingerprint(shop.project().sync("it"))
    assert shop.run("it").status == "success"


def test_text_that_is_not_utf_8_is_an_error_wherever_it_is(retl: Retl, shop: Shop):
    shop.sync("it", "SELECT 1 AS external_id")
    said = "--vars: this is not UTF-8 text\n  hint: write it in UTF-8\n"
    assert retl("ls", "--vars", "{a: \udcff}", folder=shop.folder).err == said
    for name in (".env", "models/it.sql", "syncs.yml"):
        (shop.folder / name).write_bytes(b"a=\xff")
        said = f"{name} is not UTF-8 text (byte 2)\n  hint: save it as UTF-8\n"
        found = retl("ls", folder=shop.folder)
        assert (found.code, found.err) == (2, said)
        (shop.folder / name).unlink()
        (shop.folder / name).mkdir()
        assert (name == ".env") == (retl("ls", folder=shop.folder).code == 0)
        (shop.folder / name).rmdir()
        shop.sync("it", "SELECT 1 AS external_id")
