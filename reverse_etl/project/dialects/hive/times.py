"""Hive's dates and times, which have no zone: they are in UTC."""

from typing import Any

from sqlglot import exp

from reverse_etl.project.dialects import td
from reverse_etl.project.dialects.hive.casts import DAY, to_date
from reverse_etl.project.dialects.kinds import kind_of, with_kind
from reverse_etl.project.dialects.patterns import beginning_of, for_parsing
from reverse_etl.project.dialects.rewrite import Call, Refusal, Translator, text
from reverse_etl.project.dialects.zones import UTC_ZONE

_FULL = "%Y-%m-%d %H:%M:%S"


def _letters(call: Call) -> str:
    return "spark" if call.by.family.name == "spark" else "java"


def _stamp(by: Translator, value: exp.Expression) -> exp.Expression:
    """A value as a timestamp, NULL if a text is not one. Of a text without seconds Hive reads the date alone."""
    kind = kind_of(value)
    if kind in ("timestamp", "date"):
        return value.copy()
    if by.family.name == "spark":
        return with_kind(by.fill("TRY_CAST(a0 AS TIMESTAMP)", value), "timestamp")
    of_text = (
        f"CASE WHEN {_HAS_SECONDS} THEN TRY_CAST(left({_SAID}, 19) AS TIMESTAMP) ELSE CAST({DAY} AS TIMESTAMP) END"
    )
    return with_kind(by.by_kind(value, {"text": of_text}, "TRY_CAST(a0 AS TIMESTAMP)"), "timestamp")


_SAID = "CAST(a0 AS VARCHAR)"
_HAS_SECONDS = f"regexp_matches({_SAID}, '^\\d{{4}}-\\d\\d?-\\d\\d? \\d\\d?:\\d\\d?:\\d')"


def clock(unit: str) -> Any:
    """Hour, minute or second: of a text without all of them NULL in Hive."""

    def build(call: Call) -> exp.Expression:
        value = call.args[0]
        if call.by.family.name == "spark" or kind_of(value) in ("timestamp", "date"):
            return call.by.fill(f"{unit}(a0)", _stamp(call.by, value))
        of_text = (
            f"CASE WHEN {_HAS_SECONDS} THEN {unit}(TRY_CAST(left({_SAID}, 19) AS TIMESTAMP))"
            f" WHEN regexp_full_match({_SAID}, '\\d\\d?:\\d\\d?:\\d\\d?') THEN {unit}(TRY_CAST({_SAID} AS TIME)) END"
        )
        return call.by.by_kind(value, {"text": of_text}, f"{unit}(TRY_CAST(a0 AS TIMESTAMP))")

    return build


def from_unixtime(call: Call) -> exp.Expression:
    pattern = text(_FULL)
    if len(call.args) == 2:
        pattern = td.formatted(call, call.text(1, "pattern"), _letters(call), UTC_ZONE)
    return call.by.fill("strftime(to_timestamp(a0) AT TIME ZONE 'UTC', a1)", call.args[0], pattern)


def date_format(call: Call) -> exp.Expression:
    pattern = td.formatted(call, call.text(1, "pattern"), _letters(call), UTC_ZONE)
    return call.by.fill("strftime(a0, a1)", _stamp(call.by, call.args[0]), pattern)


def unix_timestamp(call: Call) -> exp.Expression:
    if len(call.args) == 2:
        pattern = for_parsing(td.formatted(call, call.text(1, "pattern"), _letters(call), UTC_ZONE).name)
        form = "CAST(epoch(try_strptime(regexp_extract(CAST(a0 AS VARCHAR), a2), a1)) AS BIGINT)"
        return call.by.fill(form, call.args[0], text(pattern), text(beginning_of(pattern)))
    forms = {"text": f"CAST(epoch(try_strptime(left(CAST(a0 AS VARCHAR), 19), '{_FULL}')) AS BIGINT)"}
    return call.by.by_kind(call.args[0], forms, "CAST(epoch(TRY_CAST(a0 AS TIMESTAMP)) AS BIGINT)")


def days_added(sign: str) -> Any:
    def build(call: Call) -> exp.Expression:
        return call.by.fill(f"a0 {sign} CAST(a1 AS INTEGER)", to_date(call.by, call.args[0]), call.args[1])

    return build


_LATER = "CAST(a0 + INTERVAL (a1) MONTH AS DATE)"


_MONTHS = f"CASE WHEN last_day(a0) = a0 THEN last_day({_LATER}) ELSE {_LATER} END"


def add_months(call: Call) -> exp.Expression:
    day = to_date(call.by, call.args[0])
    if call.by.family.name == "spark":
        return with_kind(call.by.fill(_LATER, day, call.args[1]), "date")
    return with_kind(call.by.fill(f"strftime({_MONTHS}, '%Y-%m-%d')", day, call.args[1]), "text")


def last_day(call: Call) -> exp.Expression:
    day = to_date(call.by, call.args[0])
    if call.by.family.name == "spark":
        return with_kind(call.by.fill("last_day(a0)", day), "date")
    return with_kind(call.by.fill("strftime(last_day(a0), '%Y-%m-%d')", day), "text")


_TRUNCATED = {**dict.fromkeys(("MM", "MON", "MONTH"), "month"), **dict.fromkeys(("YY", "YYYY", "YEAR"), "year"),
              **dict.fromkeys(("Q", "QUARTER"), "quarter")}  # fmt: skip


def trunc(call: Call) -> exp.Expression:
    said = call.text(1, "unit").upper()
    unit = None if said == "Q" and call.by.family.name == "spark" else _TRUNCATED.get(said)
    if unit is None:
        raise call.refuse("the unit is not one of MM, Q and YY", "use to_date() for the day")
    day = call.by.fill("CAST(date_trunc(a0, a1) AS DATE)", text(unit), to_date(call.by, call.args[0]))
    is_spark = call.by.family.name == "spark"
    return with_kind(day, "date") if is_spark else with_kind(call.by.fill("strftime(a0, '%Y-%m-%d')", day), "text")


def months_between(call: Call) -> exp.Expression:
    """In months of 31 days, with the time of day; whole between the same days of two months, or their last days."""
    whole = "12 * (year(a0) - year(a1)) + month(a0) - month(a1)"
    same_place = "day(a0) = day(a1) OR (last_day(a0) = CAST(a0 AS DATE) AND last_day(a1) = CAST(a1 AS DATE))"
    seconds = "86400 * (day(a0) - day(a1)) + epoch(CAST(a0 AS TIME)) - epoch(CAST(a1 AS TIME))"
    made = f"CASE WHEN {same_place} THEN CAST({whole} AS DOUBLE) ELSE round({whole} + ({seconds}) / 2678400.0, 8) END"
    return call.by.fill(made, *(_at_midnight(call.by, arg) for arg in call.args))


def _at_midnight(by: Translator, value: exp.Expression) -> exp.Expression:
    stamp = _stamp(by, value)
    return by.fill("CAST(a0 AS TIMESTAMP)", stamp) if kind_of(value) == "date" else stamp


def datediff(call: Call) -> exp.Expression:
    return call.by.fill("CAST(a0 - a1 AS INTEGER)", *(to_date(call.by, arg) for arg in call.args))


def part(form: str) -> Any:
    def build(call: Call) -> exp.Expression:
        return call.by.fill(form, _stamp(call.by, call.args[0]))

    return build


def moved(form: str) -> Any:
    def build(call: Call) -> exp.Expression:
        at = td.named_zone(call, call.text(1, "time zone"))
        return call.by.fill(form, _stamp(call.by, call.args[0]), text(at.name))

    return build


def current_time(by: Translator, node: exp.Expression) -> exp.Expression:
    return with_kind(by.fill("CAST(current_timestamp AS TIMESTAMP)"), "timestamp")


def extracted(by: Translator, node: exp.Extract) -> exp.Expression:
    part = node.name.lower()
    if part not in ("year", "quarter", "month", "day", "hour", "minute", "second"):
        raise Refusal(f"{by.dialect}: EXTRACT({part} FROM x) is not translated")
    return with_kind(by.fill(f"{part}(a0)", _stamp(by, node.expression)), "int")
