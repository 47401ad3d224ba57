"""Patterns of dates and times, of Java, Joda and MySQL, as those of DuckDB's strftime.

Tables of letters: https://docs.oracle.com/javase/8/docs/api/java/text/SimpleDateFormat.html,
https://www.joda.org/joda-time/key_format.html and https://trino.io/docs/current/functions/datetime.html. A letter that is
not in a table is refused: strftime would have another idea of it.
"""

import re
from collections.abc import Mapping

from reverse_etl.project.dialects.zones import Zone

# A letter and how often it is written -> strftime. 0: any other number.
_JAVA: Mapping[str, Mapping[int, str]] = {
    "y": {2: "%y", 0: "%Y"},
    "M": {1: "%-m", 2: "%m", 3: "%b", 4: "%B"},
    "d": {1: "%-d", 2: "%d"},
    "H": {1: "%-H", 2: "%H"},
    "h": {1: "%-I", 2: "%I"},
    "m": {1: "%-M", 2: "%M"},
    "s": {1: "%-S", 2: "%S"},
    "S": {3: "%g"},
    "a": {1: "%p", 2: "%p"},
    "E": {1: "%a", 2: "%a", 3: "%a", 4: "%A"},
    "D": {1: "%-j", 3: "%j"},
    "u": {1: "%u"},
}
_JODA = {**{letter: forms for letter, forms in _JAVA.items() if letter != "u"}, "Y": {2: "%y", 0: "%Y"}}
# Of a newer formatter the same letters, but no `u` as the day of the week.
_SPARK = {letter: forms for letter, forms in _JAVA.items() if letter not in ("u", "E")} | {
    "E": {1: "%a", 2: "%a", 3: "%a", 4: "%A"}
}
LETTERS = {"java": _JAVA, "joda": _JODA, "spark": _SPARK}
_OFFSETS = {"Z": ("%s%02d%02d", "+0000"), "X": ("%s%02d", "Z"), "XX": ("%s%02d%02d", "Z"), "XXX": ("%s%02d:%02d", "Z")}
_MYSQL = {
    **{letter: f"%{letter}" for letter in "YymdHISfpbajT%"},
    **{"c": "%-m", "e": "%-d", "h": "%I", "k": "%-H", "l": "%-I", "i": "%M", "s": "%S", "M": "%B", "W": "%A"},
    **{"T": "%H:%M:%S", "r": "%I:%M:%S %p", "v": "%V", "x": "%G"},
}
_HINTS = {"Y": "yyyy is the year; YYYY is the year of the week, which differs at the turn of the year"}


class PatternError(Exception):
    """A part of a pattern that strftime has nothing for; `hint` says what to write."""

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


def strftime_of(pattern: str, letters: str, zone: Zone | None) -> str:
    """A pattern of Java or Joda as one of strftime. `zone` is that of the time; None where an offset is not possible."""
    table, made, rest = LETTERS[letters], "", pattern
    while rest:
        quoted = re.match(r"'((?:[^']|'')*)'", rest)
        run = re.match(r"([A-Za-z])\1*", rest)
        if quoted:
            made, rest = made + (quoted[1].replace("''", "'").replace("%", "%%") or "'"), rest[quoted.end() :]
        elif rest[0] == "'":
            raise PatternError("a quote is not closed")
        elif run:
            made, rest = made + _letter(run[0], table, zone), rest[run.end() :]
        else:
            made, rest = made + rest[0].replace("%", "%%"), rest[1:]
    return made


def _letter(run: str, table: Mapping[str, Mapping[int, str]], zone: Zone | None) -> str:
    if run in _OFFSETS or (run[0] == "Z" and len(run) <= 3):
        return _offset(run, zone)
    forms = table.get(run[0], {})
    found = forms.get(len(run)) or (forms.get(0) if len(run) < 5 else None)
    if found is None:
        raise PatternError(f'"{run}" is not translated', _HINTS.get(run[0]))
    return found


def _offset(run: str, zone: Zone | None) -> str:
    form, of_utc = _OFFSETS["Z" if run[0] == "Z" else run]
    fixed = zone.fixed_offset if zone else None
    if fixed is None:
        raise PatternError(f'"{run}" is translated for zones without summer time only', "write the offset as text")
    minutes = int(fixed.total_seconds() // 60)
    if not minutes:
        return of_utc
    hours, rest = divmod(abs(minutes), 60)
    values = (hours, rest) if form.count("%") == 3 else (hours,)
    return form % ("-" if minutes < 0 else "+", *values)


def mysql_strftime(pattern: str) -> str:
    """A pattern of MySQL, as Trino's date_format has it, as one of strftime."""

    def one(found: re.Match[str]) -> str:
        if found[1] in "DUuVwX":
            raise PatternError(f'"{found[0]}" is not supported by Trino either')
        return _MYSQL.get(found[1]) or found[1]

    return re.sub(r"%(.)", one, pattern, flags=re.DOTALL)


_DIGITS = {"%Y": r"\d{4}", "%y": r"\d\d", "%g": r"\d{3}", "%b": "[A-Za-z]{3}", "%p": "[AaPp][Mm]", "%%": "%"}


def shape_of(pattern: str) -> str:
    """A regular expression for texts that a pattern of strftime would write: strptime takes others, too."""

    def one(found: re.Match[str]) -> str:
        letter = found[0]
        if letter[0] != "%":
            return re.escape(letter)
        if letter in ("%B", "%a", "%A", "%j", "%-j"):
            raise PatternError("names of days and months are not translated here")
        return _DIGITS.get(letter) or (r"\d\d?" if letter[1] == "-" else r"\d\d")

    return re.sub(r"%-?.|.", one, pattern, flags=re.DOTALL)


_NAMES = ("%b", "%B", "%a", "%A", "%p")


def beginning_of(pattern: str) -> str:
    """A regular expression for the beginning of a text that Java's SimpleDateFormat reads: it ignores the rest. Numbers
    that touch the next one have as many digits as letters, others all digits that are there."""

    def one(found: re.Match[str]) -> str:
        letter = found[0]
        if letter in _NAMES:
            return "[A-Za-z]+"
        if letter[0] != "%" or letter == "%%":
            return re.escape(letter[-1])
        touches = pattern[found.end() : found.end() + 1] == "%"
        return (_DIGITS.get(letter) or r"\d\d") if touches else r"\d+"

    return "^" + re.sub(r"%.|.", one, pattern, flags=re.DOTALL)


def for_parsing(pattern: str) -> str:
    """A pattern of strftime for strptime, which takes one digit or two anyway."""
    return pattern.replace("%-", "%")
