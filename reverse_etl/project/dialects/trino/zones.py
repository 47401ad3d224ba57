"""Times that Trino shows in a zone: the moment, and the zone beside it, as long as the SQL shows it."""

from sqlglot import exp

from reverse_etl.project.dialects.kinds import kind_of, with_kind
from reverse_etl.project.dialects.rewrite import Refusal, Translator, text
from reverse_etl.project.dialects.zones import Zone, zone


def zoned(node: exp.Expression, at: Zone) -> exp.Expression:
    """A moment that Trino shows in a zone."""
    node.meta["kind"], node.meta["zone"] = "timestamptz", at.name
    return node


def zone_in(node: exp.Expression) -> str | None:
    while isinstance(node, exp.Paren | exp.Alias) and "zone" not in node.meta:
        node = node.this
    found: str | None = node.meta.get("zone")
    return found


def wall(by: Translator, value: exp.Expression) -> exp.Expression:
    """The clock that Trino shows of a time: in its own zone if it has one."""
    if kind_of(value) != "timestamptz":
        return value
    return with_kind(by.fill("a0 AT TIME ZONE a1", value, text(zone_in(value) or "UTC")), "timestamp")


def at_time_zone(by: Translator, node: exp.AtTimeZone) -> exp.Expression:
    name = node.args["zone"]
    if not (isinstance(name, exp.Literal) and name.is_string):
        raise Refusal(f"{by.dialect}: the time zone must be a text, not an expression")
    return shown_in(by, node.this, name.name)


def shown_in(by: Translator, value: exp.Expression, name: str) -> exp.Expression:
    at = zone(name)
    if at is None:
        raise Refusal(f'{by.dialect}: time zone "{name}" is not known here', "use a name such as Asia/Tokyo")
    kind = kind_of(value)
    if kind == "timestamptz":
        return zoned(exp.Paren(this=value.copy()), at)
    if kind in ("timestamp", "date"):
        return zoned(by.fill("(CAST(a0 AS TIMESTAMP) AT TIME ZONE 'UTC')", value), at)
    # A column: DuckDB takes a TIMESTAMP for UTC, as Trino does, if the session is in UTC, which it is in retl.
    return zoned(by.fill("CAST(a0 AS TIMESTAMPTZ)", value), at)


def refuse_lost_zones(tree: exp.Expression, by: Translator) -> None:
    """A column of a subquery forgets its zone: refused, as it may be formatted outside."""
    for one in tree.find_all(exp.Select):
        is_outer = one is tree
        for projection in one.expressions:
            if not is_outer and zone_in(projection) not in (None, "UTC"):
                by.refusals.append(
                    by.found(projection, "a column of a subquery cannot keep the time zone that it is shown in",
                             "use AT TIME ZONE where it is formatted")
                )  # fmt: skip
