"""Treasure Data's functions: TD_TIME_RANGE, TD_INTERVAL and the rest. `time` is a number of seconds since 1970.

Sources: Treasure Data's pages about functions of Hive and of Trino (docs.treasuredata.com, "Supported Hive functions" and
"Supported Trino functions"). What is a constant (bounds of a range, windows of an interval) is worked out here.
"""

import re
from datetime import datetime

from sqlglot import exp

from reverse_etl.project.dialects.intervals import UNITS, window
from reverse_etl.project.dialects.kinds import kind_of, with_kind
from reverse_etl.project.dialects.patterns import PatternError, strftime_of
from reverse_etl.project.dialects.rewrite import Call, indexed, integer, number, text
from reverse_etl.project.dialects.row import ANY, Row, refused, repaired
from reverse_etl.project.dialects.zones import UTC_ZONE, Zone, zone

_MOMENT = re.compile(r"(\d{4}-\d\d?-\d\d?)(?:[ T](\d\d?:\d\d(?::\d\d)?)(?:\.\d+)?)?\s*(\S+)?")
_STEP = re.compile(r"([+-]?\d+)([wdhms])")
_SECONDS = {"w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}
_HAS_ZONE = r"(Z|[+-]\d\d:?\d\d|[A-Za-z_/]{3,})$"


def zone_of(call: Call, position: int) -> Zone:
    """The zone that a call names at this position, or UTC. Raises Refusal if it is not one, or not a literal."""
    if len(call.args) <= position:
        return UTC_ZONE
    return named_zone(call, call.text(position, "time zone"))


def named_zone(call: Call, name: str) -> Zone:
    found = zone(name)
    if found is None:
        raise call.refuse(f'time zone "{name}" is not known here', "use a name such as Asia/Tokyo")
    return found


def _wall(seconds: exp.Expression, at: Zone, call: Call) -> exp.Expression:
    """The wall clock of a zone, at so many seconds."""
    return call.by.fill("to_timestamp(a0) AT TIME ZONE a1", seconds, text(at.name))


def _seconds(wall: exp.Expression, at: Zone, call: Call) -> exp.Expression:
    made = call.by.fill("CAST(epoch(a0 AT TIME ZONE a1) AS BIGINT)", wall, text(at.name))
    return with_kind(made, "int")


def _parsed(said: str, at: Zone, call: Call) -> int:
    """Seconds of a literal time: `2019-01-01`, `2019-01-01 10:00:00`, with a zone behind it or not."""
    found = _MOMENT.fullmatch(said.strip())
    if not found:
        raise call.refuse(f"the time {said!r} is not read as YYYY-MM-DD, or YYYY-MM-DD HH:MM:SS")
    own = named_zone(call, found[3]) if found[3] else at
    year, month, day = (int(part) for part in found[1].split("-"))
    hour, minute, second = (int(part) for part in f"{found[2] or '0:00'}:00".split(":")[:3])
    try:
        return round(datetime(year, month, day, hour, minute, second, tzinfo=own.info).timestamp())
    except ValueError as error:
        raise call.refuse(f"the time {said!r} does not exist") from error


def _moment(value: exp.Expression, at: Zone, call: Call) -> exp.Expression:
    """Seconds of a time that is a number, or a text: a constant if it is a literal."""
    if isinstance(value, exp.Literal) and value.is_string:
        return number(_parsed(str(value.this), at, call))
    said = "CAST(a0 AS VARCHAR)"
    local = f"CAST(epoch(TRY_CAST({said} AS TIMESTAMP) AT TIME ZONE '{at.name}') AS BIGINT)"
    full = (
        f"CASE WHEN regexp_matches({said}, '^\\d{{4}}-\\d\\d-\\d\\d *[A-Za-z+-]') AND {said}[11] <> 'T'"
        f" THEN {said}[1:10] || ' 00:00:00' || {said}[11:] ELSE {said} END"
    )
    moment = f"CAST(epoch(TRY_CAST({full} AS TIMESTAMPTZ)) AS BIGINT)"
    either = f"CASE WHEN regexp_matches({said}, '{_HAS_ZONE}') THEN {moment} ELSE {local} END"
    if kind_of(value) in ("int", "double", "decimal"):
        return value.copy()
    return with_kind(call.by.by_kind(value, {"text": either}, "TRY_CAST(a0 AS BIGINT)"), "int")


def _time_range(call: Call) -> exp.Expression:
    at = zone_of(call, 3)
    conditions = []
    for position, sign in ((1, ">="), (2, "<")):
        bound = call.args[position] if len(call.args) > position else exp.Null()
        if isinstance(bound, exp.Null):
            continue
        is_constant = isinstance(bound, exp.Literal)
        moment = _moment(bound, at, call)
        is_constant = is_constant or integer(moment) is not None or isinstance(moment, exp.Add | exp.Sub)
        form = f"a0 {sign} a1" if is_constant else f"(a2 IS NULL OR a0 {sign} a1)"
        conditions.append(call.by.fill(form, call.args[0], moment, bound))
    if len(conditions) == 2:
        return exp.And(this=conditions[0], expression=conditions[1])
    return conditions[0] if conditions else exp.Boolean(this=True)


def _time_parse(call: Call) -> exp.Expression:
    return _moment(call.args[0], zone_of(call, 1), call)


def _time_format(call: Call) -> exp.Expression:
    at = zone_of(call, 2)
    pattern = call.text(1, "pattern")
    if pattern.endswith("z") and at is UTC_ZONE and "'" not in pattern:
        pattern = pattern.rstrip("z") + "'UTC'"
    made = formatted(call, pattern, "java", at)
    return call.by.fill("strftime(a0, a1)", _wall(call.args[0], at, call), made)


def formatted(call: Call, pattern: str, letters: str, at: Zone | None) -> exp.Expression:
    """The pattern of strftime, as a literal. Raises Refusal for letters that it does not have."""
    try:
        return text(strftime_of(pattern, letters, at))
    except PatternError as error:
        raise call.refuse(f"pattern {pattern!r}: {error.what}", error.hint) from error


_CODES = {
    **{"y": "%Y", "q": "%Y-%m", "M": "%Y-%m", "w": "%Y-%m-%d", "d": "%Y-%m-%d", "h": "%Y-%m-%d %H"},
    **{"m": "%Y-%m-%d %H:%M", "s": "%Y-%m-%d %H:%M:%S"},
}


def _time_string(call: Call) -> exp.Expression:
    code, at = call.text(1, "format"), zone_of(call, 2)
    if code.rstrip("!") not in _CODES or len(code) > 2:
        raise call.refuse(f'the format "{code}" is not one of {", ".join(_CODES)}, with ! or without')
    full = "" if code.endswith("!") else "%Y-%m-%d %H:%M:%S" + formatted(call, "Z", "java", at).name
    pattern = full or _CODES[code[0]]
    wall = call.by.fill("date_trunc(a0, a1)", text(UNITS[code[0]]), _wall(call.args[0], at, call))
    return call.by.fill("strftime(a0, a1)", wall, text(pattern))


def _time_add(call: Call) -> exp.Expression:
    start = _moment(call.args[0], zone_of(call, 2), call)
    step = call.args[1]
    if not (isinstance(step, exp.Literal) and step.is_string):
        return call.by.fill("a0 + a1", start, _step_of(call, step))
    said = str(step.this).replace(" ", "")
    parts = _STEP.findall(said)
    if "".join(n + unit for n, unit in parts) != said or not parts:
        raise call.refuse(f"the duration {step.this!r} is not a sum of weeks, days, hours, minutes, seconds, as in -1d")
    sign = -1 if said.startswith("-") else 1
    seconds = sum(sign * abs(int(n)) * _SECONDS[unit] for n, unit in parts)
    constant = integer(start)
    if constant is not None:
        return number(constant + seconds)
    made = call.by.fill("a0 + a1" if seconds >= 0 else "a0 - a1", start, number(abs(seconds)))
    return with_kind(made, "int")


def _step_of(call: Call, step: exp.Expression) -> exp.Expression:
    """`cast(x as varchar) || 'd'`, in seconds."""
    unit = step.expression if isinstance(step, exp.DPipe) else None
    if isinstance(step, exp.Paren):
        return _step_of(call, step.this)
    if not (isinstance(unit, exp.Literal) and str(unit.this) in _SECONDS):
        raise call.refuse("the duration is neither a text nor CAST(x AS varchar) || 'd'")
    value = step.this
    return call.by.fill("CAST(a0 AS BIGINT) * a1", value, number(_SECONDS[str(unit.this)]))


def _date_trunc(call: Call) -> exp.Expression:
    unit, at = call.text(0, "unit").lower(), zone_of(call, 2)
    if unit not in ("minute", "hour", "day", "week", "month", "quarter", "year"):
        raise call.refuse(f'the unit "{unit}" is not one of minute, hour, day, week, month, quarter, year')
    wall = _wall(_moment(call.args[1], at, call), at, call)
    return _seconds(call.by.fill("date_trunc(a0, a1)", text(unit), wall), at, call)


def _scheduled_time(call: Call) -> exp.Expression:
    return number(int(call.by.scheduled_time.timestamp()))


def _window(call: Call, spec: str, at: Zone) -> tuple[int, int]:
    now = call.by.scheduled_time.astimezone(at.info)
    try:
        start, end = window(spec, now.replace(tzinfo=None))
    except ValueError as error:
        raise call.refuse(
            f"the interval {spec!r} is not read: {error}", "write it as -1d, -7d/now or -1M/1M"
        ) from error
    return tuple(round(one.replace(tzinfo=at.info).timestamp()) for one in (start, end))  # type: ignore[return-value]


def _interval(call: Call) -> exp.Expression:
    if integer(call.args[0]) is not None:
        raise call.refuse("the first argument must be a column", "use TD_INTERVAL(time, '-1d')")
    bounds = _window(call, call.text(1, "interval"), zone_of(call, 2))
    return call.by.fill("a0 >= a1 AND a0 < a2", call.args[0], *map(number, bounds))


def _interval_range(call: Call) -> exp.Expression:
    return call.by.fill("[a0, a1]", *map(number, _window(call, call.text(0, "interval"), zone_of(call, 1))))


def _first(function: str) -> object:
    def build(call: Call) -> exp.Expression:
        result, *keys = call.args
        if len(keys) == 1:
            return call.by.fill(f"{function}(a0, a1)", result, keys[0])
        row = exp.Anonymous(this="row", expressions=[key.copy() for key in keys])
        return call.by.fill(f"{function}(a0, a1)", result, row)

    return build


def _array_index(call: Call) -> exp.Expression:
    position = call.whole(1, "index")
    if position < 0:
        raise call.refuse("a negative index is not translated")
    return indexed(call.args[0], number(position + 1))


def _url_decode(call: Call) -> exp.Expression:
    if len(call.args) > 1 and call.text(1, "character set").lower() not in ("utf-8", "utf8"):
        raise call.refuse("only UTF-8 is translated")
    return call.by.fill("TRY(url_decode(replace(a0, '+', ' ')))", call.args[0])


ENCODED = "replace(replace(replace(url_encode(a0), '%20', '+'), '%2A', '*'), '~', '%7E')"


def _url_encode(call: Call) -> exp.Expression:
    if len(call.args) > 1 and call.text(1, "character set").lower() not in ("utf-8", "utf8"):
        raise call.refuse("only UTF-8 is translated")
    return call.by.fill(ENCODED, call.args[0])


_LOAD = "load its result as a table, and join that"
_IP = " ".join(
    f"td_ip_to_{what}"
    for what in (
        *("country_code", "country_name", "city_name", "subdivision_names", "most_specific_subdivision_name"),
        *("least_specific_subdivision_name", "latitude", "longitude", "metro_code", "time_zone", "postal_code"),
        *("connection_type", "domain"),
    )
)

BOTH: dict[str, Row] = {
    **repaired("td_time_range", (2, _time_range), (3, _time_range), (4, _time_range), kind="bool",
               how="time >= start AND time < end, in seconds"),
    **repaired("td_time_parse", (1, _time_parse), (2, _time_parse), kind="int", how="seconds; NULL if it is not a time"),
    **repaired("td_time_format", (2, _time_format), (3, _time_format), kind="text", how="strftime() in the zone"),
    **repaired("td_time_add", (2, _time_add), (3, _time_add), kind="int", how="time + seconds"),
    **repaired("td_date_trunc", (2, _date_trunc), (3, _date_trunc), kind="int", how="date_trunc() in the zone, in seconds"),
    **repaired("td_scheduled_time", (0, _scheduled_time), kind="int", how="the scheduled time of the run, in seconds"),
    **repaired("td_interval", (2, _interval), (3, _interval), kind="bool",
               how="time >= start AND time < end, counted from the scheduled time of the run"),
    **repaired("td_md5", "md5(CAST(a0 AS VARCHAR))", kind="text"),
    **repaired("td_url_decode", (1, _url_decode), (2, _url_decode), kind="text",
               how="url_decode() of the text with blanks for +"),
    **refused("td_sessionize td_sessionize_window", "it returns a random id, another one in every run",
              "number the sessions: sum(CASE WHEN time - lag(time) OVER w > 1800 THEN 1 ELSE 0 END) OVER w"),
    **refused(_IP, "it needs MaxMind's database", _LOAD),
    **refused("td_lat_long_to_country", "it needs the borders of countries", _LOAD),
    **refused("td_parse_agent td_parse_user_agent", "it needs a list of user agents", _LOAD),
    **refused("td_currency_conv", "it needs the rates of the day", _LOAD),
    **refused("td_approx_most_frequent approx_most_frequent smart_digest td_smart_digest", "its result is approximate",
              "use count(*) with GROUP BY, or sha256()"),
}  # fmt: skip
TRINO_ONLY: dict[str, Row] = {
    **repaired("td_time_string", (2, _time_string), (3, _time_string), kind="text", how="strftime() of date_trunc()"),
    **repaired("td_interval_range", (1, _interval_range), (2, _interval_range), kind="list", how="[start, end]"),
}
HIVE_ONLY: dict[str, Row] = {
    **repaired("td_first", (ANY, _first("arg_min_null")), how="arg_min_null(value, key)"),
    **repaired("td_last", (ANY, _first("arg_max_null")), how="arg_max_null(value, key)"),
    **repaired("td_divide", "CASE WHEN a1 = 0 THEN 0 ELSE CAST(a0 AS DOUBLE) / a1 END", kind="double"),
    **repaired("td_array_index", (2, _array_index), how="a0[a1 + 1]"),
    **repaired("td_url_encode", (1, _url_encode), (2, _url_encode), kind="text", how=ENCODED),
    **refused("td_avgif td_sumif", "what it returns for no row is not documented",
              "use avg(CASE WHEN condition THEN x END), or sum()"),
    **refused("td_numeric_range", "it makes rows", "use LATERAL VIEW explode(array(0, 2, 4)) t AS x"),
    **refused("td_x_rank", "it counts in the order of the rows", "use row_number() OVER (PARTITION BY keys ORDER BY ..)"),
    **refused("td_substr_inencoding td_substring_inencoding", "DuckDB cuts texts by characters", "use substr()"),
    **refused("td_pivot td_unpivot", "it makes columns", "write this model in DuckDB SQL, with PIVOT"),
}  # fmt: skip


def unknown(name: str) -> Row | None:
    """What is said of a name like TD_SOMETHING that is in no table."""
    if not name.startswith("td_"):
        return None
    return refused(name, "it is not a function of Treasure Data that is known here")[name]
