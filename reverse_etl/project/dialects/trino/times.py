"""Trino's functions of dates and times."""

from typing import Any

from sqlglot import exp

from reverse_etl.project.dialects import clauses, td
from reverse_etl.project.dialects.kinds import TESTS, kind_of, with_kind
from reverse_etl.project.dialects.patterns import PatternError, for_parsing, mysql_strftime
from reverse_etl.project.dialects.rewrite import Call, Refusal, Translator, text
from reverse_etl.project.dialects.trino.zones import wall, zone_in, zoned
from reverse_etl.project.dialects.zones import UTC_ZONE, zone


def formatted_time(build: Any) -> Any:
    def made(call: Call) -> exp.Expression:
        return call.by.fill("strftime(a0, a1)", wall(call.by, call.args[0]), text(build(call)))

    return made


def mysql(call: Call) -> str:
    try:
        return mysql_strftime(call.text(1, "format"))
    except PatternError as error:
        raise call.refuse(f"format {call.text(1, 'format')!r}: {error.what}") from error


def joda(call: Call) -> str:
    value = call.args[0]
    at = zone(zone_in(value) or "UTC") if kind_of(value) in ("timestamp", "date", "timestamptz") else None
    return td.formatted(call, call.text(1, "format"), "joda", at).name


def parse_datetime(call: Call) -> exp.Expression:
    pattern = for_parsing(td.formatted(call, call.text(1, "format"), "joda", None).name)
    return zoned(call.by.fill("(strptime(a0, a1) AT TIME ZONE 'UTC')", call.args[0], text(pattern)), UTC_ZONE)


def date_parse(call: Call) -> exp.Expression:
    return call.by.fill("strptime(a0, a1)", call.args[0], text(for_parsing(mysql(call))))


def from_unixtime(call: Call) -> exp.Expression:
    at = UTC_ZONE if len(call.args) == 1 else td.named_zone(call, call.text(1, "time zone"))
    return zoned(call.by.fill("to_timestamp(a0)", call.args[0]), at)


def with_timezone(call: Call) -> exp.Expression:
    at = td.named_zone(call, call.text(1, "time zone"))
    return zoned(call.by.fill("(a0 AT TIME ZONE a1)", call.args[0], text(at.name)), at)


_UNITS = ("millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year")


def _unit(call: Call) -> str:
    unit = call.text(0, "unit").lower()
    if unit not in _UNITS:
        raise call.refuse(f"the unit {unit!r} is not one of {', '.join(_UNITS)}")
    return unit


def date_trunc(call: Call) -> exp.Expression:
    unit, value = _unit(call), call.args[1]
    kind = kind_of(value)
    if kind == "timestamptz":
        at = zone(zone_in(value) or "UTC") or UTC_ZONE
        made = call.by.fill("(date_trunc(a0, a1) AT TIME ZONE a2)", text(unit), wall(call.by, value), text(at.name))
        return zoned(made, at)
    if kind == "date":
        return with_kind(call.by.fill("CAST(date_trunc(a0, a1) AS DATE)", text(unit), value), "date")
    made = call.by.fill("date_trunc(a0, a1)", text(unit), value)
    if kind == "timestamp":
        return with_kind(made, "timestamp")
    unsure = value if clauses.is_either_way(call.node) else _no_date(call, value)
    return call.by.fill("date_trunc(a0, a1)", text(unit), unsure)


def _no_date(call: Call, value: exp.Expression) -> exp.Expression:
    """A value of a type that is not known here. A date would become a timestamp, so it ends the run."""
    return call.by.fill(f"CASE WHEN {TESTS['date']} THEN stop('{_WHICH}') ELSE a0 END", value)


_WHICH = "the type of this is not known here: write CAST(x AS date) or CAST(x AS timestamp)"


def date_add(call: Call) -> exp.Expression:
    unit, value = _unit(call), call.args[2]
    amount = f"INTERVAL (a1) {unit}" if unit != "quarter" else "INTERVAL (3 * a1) month"
    kind = kind_of(value)
    if kind == "date":
        return with_kind(call.by.fill(f"CAST(a2 + {amount} AS DATE)", *call.args), "date")
    if kind is None:
        unsure = value if clauses.is_either_way(call.node) else _no_date(call, value)
        return call.by.fill(f"a2 + {amount}", *call.args[:2], unsure)
    if zone_in(value) not in (None, "UTC"):
        raise call.refuse("a time in a zone other than UTC is not translated", "add before AT TIME ZONE")
    return with_kind(call.by.fill(f"a2 + {amount}", *call.args), kind)


def date_diff(call: Call) -> exp.Expression:
    unit = _unit(call)
    one, other = (wall(call.by, value) for value in call.args[1:])
    return call.by.fill("date_sub(a0, a1, a2)", text(unit), one, other)


def iso8601(call: Call) -> exp.Expression:
    value = call.args[0]
    kind = kind_of(value)
    if kind == "date":
        return call.by.fill("strftime(a0, '%Y-%m-%d')", value)
    if kind == "timestamp":
        return call.by.fill("strftime(a0, '%Y-%m-%dT%H:%M:%S.%g')", value)
    if kind == "timestamptz":
        at = zone(zone_in(value) or "UTC")
        offset = td.formatted(call, "XXX", "java", at).name
        return call.by.fill("strftime(a0, a1)", wall(call.by, value), text(f"%Y-%m-%dT%H:%M:%S.%g{offset}"))
    forms = {
        "date": "strftime(TRY_CAST(a0 AS DATE), '%Y-%m-%d')",
        "timestamptz": "strftime(TRY_CAST(a0 AS TIMESTAMP), '%Y-%m-%dT%H:%M:%S.%gZ')",
    }
    return call.by.by_kind(value, forms, "strftime(TRY_CAST(a0 AS TIMESTAMP), '%Y-%m-%dT%H:%M:%S.%g')")


def from_iso8601_timestamp(call: Call) -> exp.Expression:
    return zoned(call.by.fill("CAST(a0 AS TIMESTAMPTZ)", call.args[0]), UTC_ZONE)


def from_iso8601_date(call: Call) -> exp.Expression:
    return call.by.fill("CAST(a0 AS DATE)", call.args[0])


def part(form: str) -> Any:
    def build(call: Call) -> exp.Expression:
        return call.by.fill(form, wall(call.by, call.args[0]))

    return build


PARTS = {
    **{part: f"{part}(a0)" for part in ("year", "quarter", "month", "day", "hour", "minute")},
    **{"second": "second(a0)", "week": "weekofyear(a0)", "week_of_year": "weekofyear(a0)", "day_of_month": "day(a0)"},
    **{"day_of_week": "isodow(a0)", "dow": "isodow(a0)", "day_of_year": "dayofyear(a0)", "doy": "dayofyear(a0)"},
    **{"year_of_week": "isoyear(a0)", "yow": "isoyear(a0)"},
}


def extracted(by: Translator, node: exp.Extract) -> exp.Expression:
    part = node.name.lower()
    part = {"dayofweek": "dow", "dayofyear": "doy", "day_of_week": "dow"}.get(part, part)
    if part not in PARTS:
        raise Refusal(f"{by.dialect}: EXTRACT({part} FROM x) is not translated")
    return with_kind(by.fill(PARTS[part], wall(by, node.expression)), "int")


def moment_now(by: Translator, node: exp.Expression) -> exp.Expression:
    return zoned(by.fill("current_timestamp"), UTC_ZONE)


def now(call: Call) -> exp.Expression:
    return zoned(call.by.fill("current_timestamp"), UTC_ZONE)


def to_unixtime(call: Call) -> exp.Expression:
    return call.by.fill("epoch(a0)", call.args[0])
