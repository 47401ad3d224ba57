"""What queries of Treasure Data are made of, in Hive and in Trino: each construct is proved, or refused by name.

A construct is a list of SQL. Text alone is one of the cases of docs/dialect_cases.py, with its result there. A pair is
refused, or ends the run, with that message: by dialect, where they differ.
"""

import re
from collections.abc import Iterator, Mapping

import duckdb
import pytest
from duckdb import DuckDBPyConnection

from docs import dialect_cases as cases
from reverse_etl.errors import ProjectError
from tests.project.test_dialects import PROOFS, translated, warehouse

__all__ = ["warehouse"]  # the fixture

PROVED = "proved"
ENDS = "ends the run with an error of DuckDB, as in Trino"
Entry = str | tuple[str, str | Mapping[str, str]]

HIVE_AND_SPARK: Mapping[str, tuple[Entry, ...]] = {
    "division": (
        "7/2",
        "7/0",
        "i/two",
        "i/zero",
        ("1.0/3", "a decimal divided by an integer or decimal is rounded to a scale"),
        ("e/two", "a decimal divided by an integer or decimal is rounded to a scale: use CAST(x AS double) / y"),
        "7 div 2",
        "-7 div 2",
        "i div zero",
    ),
    "remainder": (
        "-7 % 3",
        "pmod(-7,3)",
    ),
    "number as an integer": (
        "cast(99.9 as int)",
        "cast(-99.9 as int)",
        "cast(3000000000 as int)",
    ),
    "text as an integer": (
        "cast('12.7' as int)",
        "cast('12abc' as int)",
        "cast('' as int)",
        "cast(' 12 ' as int)",
        "cast('1e3' as int)",
        "cast('.5' as int)",
        "cast('1_000' as int)",
        "cast('0x10' as int)",
    ),
    "text as a double": (
        "cast('1d' as double)",
        "cast(' 1 ' as double)",
        "cast('NaN' as double)",
    ),
    "double as text": (
        "cast(cast(0.001 as double) as string)",
        (
            "cast(cast(1e7 as double) as string)",
            "the text of a double is written another way from 10 million up and below 0.001: cast it to decimal first",
        ),
        (
            "cast(cast(1.5e-5 as double) as string)",
            "the text of a double is written another way from 10 million up and below 0.001: cast it to decimal first",
        ),
    ),
    "boolean as text": ("cast(true as string)",),
    "decimal as text": (
        "cast(cast(1.10 as decimal(10,2)) as string)",
        "cast(cast(1 as decimal(10,2)) as string)",
    ),
    "text as a boolean": (
        ("cast('false' as boolean)", {"hive": "text as boolean is not translated: versions differ", "spark": PROVED}),
        (
            "cast(w as boolean)",
            {"hive": "text as boolean is not translated: write the comparison: x = true", "spark": PROVED},
        ),
    ),
    "number as a timestamp": (
        "cast(secs as timestamp)",
        "cast(d as timestamp)",
    ),
    "text as a timestamp": (
        "cast('2026-11-23T10:00:00Z' as timestamp)",
        "cast('2026-11-23 10:00' as timestamp)",
        "cast('2026-11-23' as timestamp)",
    ),
    "text as a date": (
        "cast('2026-02-31' as date)",
        "cast('2026-13-45' as date)",
        "to_date('2026-11-23 10:00:00')",
        "to_date('2026-13-45')",
    ),
    "other types": (
        "cast(i as bigint)",
        "cast(i as smallint)",
        "cast(i as float)",
        "cast('12.345' as decimal(10,2))",
        "cast(w as varchar(2))",
        "cast(w as char(2))",
        ("cast(w as binary)", "CAST AS BINARY is not translated"),
    ),
    "from_unixtime": (
        "from_unixtime(1795474800)",
        "from_unixtime(1795474800, \"yyyy-MM-dd'T'HH:mm:ss'Z'\")",
        "from_unixtime(1795474800, 'EEE, d MMM yyyy')",
        (
            "from_unixtime(1795474800, 'u')",
            {"hive": PROVED, "spark": "from_unixtime(): pattern 'u': \"u\" is not translated"},
        ),
        ("from_unixtime(1795474800, 'YYYY')", "from_unixtime(): pattern 'YYYY': \"YYYY\" is not translated"),
    ),
    "date_format": (
        "date_format('2026-11-23', 'yyyyMMdd')",
        "date_format('x', 'yyyy')",
    ),
    "unix_timestamp": (
        "unix_timestamp('2026-11-23 23:00:00')",
        "unix_timestamp('2026-1-3 3:00:00')",
        "unix_timestamp('2026-11-23')",
        "unix_timestamp('x')",
        "unix_timestamp('23/11/2026', 'dd/MM/yyyy')",
        "unix_timestamp('23/11/2026 tail', 'dd/MM/yyyy')",
        "unix_timestamp() > 1795474800 - 1000000000",
    ),
    "now": (
        "current_timestamp > ts - interval 10000 day",
        "current_date > dt",
    ),
    "days added": (
        "date_add('2026-11-23', 1)",
        "date_add('2026-11-23 10:00:00', 1)",
        "date_add('x', 1)",
        "date_sub('2026-11-23', i)",
    ),
    "months added": (
        "add_months('2026-02-28', 1)",
        "add_months('2026-11-30', 3)",
    ),
    "first and last days": (
        "last_day('2026-02-10')",
        "trunc('2026-11-23', 'MM')",
        "trunc('2026-11-23', 'YY')",
        ("trunc(dt, 'Q')", {"hive": PROVED, "spark": "trunc(): the unit is not one of MM, Q and YY"}),
        ("trunc('2026-11-23', 'DD')", "trunc(): the unit is not one of MM, Q and YY"),
        ("next_day('2026-11-23', 'MON')", "next_day() cannot be translated: it has no exact counterpart in DuckDB"),
    ),
    "months between": (
        "months_between('2026-03-15', '2026-01-31')",
        "months_between('2026-03-31', '2026-02-28')",
        "months_between('2026-03-15 10:00:00', '2026-01-31')",
    ),
    "days between": (
        "datediff('2026-11-23', '2026-11-20')",
        "datediff('2026-11-23 01:00:00', '2026-11-22 23:00:00')",
        "datediff('x', '2026-11-20')",
    ),
    "parts of times": (
        "year('2026-11-23')",
        "year('x')",
        "hour('2026-11-23 10:11:12')",
        "weekofyear('2026-11-23')",
        "dayofweek('2026-11-22')",
    ),
    "time zones": (
        "from_utc_timestamp('2026-11-23 15:00:00', 'JST')",
        "to_utc_timestamp('2026-11-24 00:00:00', 'Asia/Tokyo')",
    ),
    "parts of texts": (
        "substr('1990', 0, 4)",
        "substr('abc', zero, 2)",
        "substr('abc', 2, -1)",
        "substr('abc', -9, 3)",
        "substring('abcde', -3)",
        "substring_index('www.apache.org', '.', 2)",
    ),
    "greatest and least": (
        "greatest(1, null, 3)",
        "least(1, null)",
    ),
    "size": (
        "size(null)",
        "size(array())",
        "size(array(1, 2))",
        "size(map('a', 1))",
    ),
    "percentiles": (
        "select percentile(n, 0.5) as a, percentile(n, array(0, 1)) as b from u",
        ("percentile_approx(i, 0.5)", "percentile_approx() cannot be translated: its result is approximate"),
    ),
    "deviation": ("select stddev(n) as a, std(n) as b, variance(n) as c, round(stddev_samp(n), 3) as d from u",),
    "regular expressions": (
        "regexp_extract('foo12', '([a-z]+)([0-9]+)')",
        "regexp_extract('foo12', '([a-z]+)([0-9]+)', 2)",
        "regexp_extract('x', '([0-9]+)', 1)",
        ("regexp_extract('foo12', '([a-z]+)', 5)", "the regular expression has 1 group, and no group 5"),
        ("regexp_extract(w, '(?=a)(b)', 1)", "the regular expression uses (?=, which DuckDB does not have"),
        "regexp_replace('ab', '(a)(b)', '$2$1')",
        "w rlike 'b'",
    ),
    "split": (
        "split('a,b,,', ',')",
        "split('a.b', '\\\\.')",
        ("split(w, '')", "split(): an empty separator is not translated"),
    ),
    "get_json_object": (
        "get_json_object('bad', '$.a')",
        "get_json_object(doc, 'a')",
        "get_json_object(doc, '$.a')",
        "get_json_object(doc, '$.n')",
        "get_json_object('{\"a\":1.50}', '$.a')",
        'get_json_object(\'{"a":[{"b":1},{"b":2}]}\', \'$.a[*].b\')',
    ),
    "json_tuple": (
        "select a, b from u lateral view json_tuple(j, 'a', 'b') e as a, b order by a desc",
        ("json_tuple(doc, 'a')", "json_tuple() cannot be translated: it returns several columns or rows"),
    ),
    "str_to_map": (
        "str_to_map('a:1,b:2')",
        "str_to_map('a:1,a:2:3,b')",
    ),
    "text beside a number": (
        ("'10' > 9", {"hive": PROVED, "spark": "a text compared with a number is not translated"}),
        ("'01' = 1", {"hive": PROVED, "spark": "a text compared with a number is not translated"}),
        ("'a' = 1", {"hive": PROVED, "spark": "a text compared with a number is not translated"}),
        ("s in (12, 13)", {"hive": PROVED, "spark": "a text compared with a number is not translated: cast it"}),
        ("s > 12", {"hive": PROVED, "spark": "a text compared with a number is not translated: cast it"}),
        ("s between 12 and 13", {"hive": PROVED, "spark": "a text compared with a number is not translated: cast it"}),
        "i > 6",
        "i between 7 and 9",
        "'1' + 1",
        "select sum('1.5') as a, avg('x') as b from u",
    ),
    "text beside text": ("'10' > '9'",),
    "concat": (
        "concat('a', null)",
        "concat_ws('-', 'a', null, 'b')",
        "concat_ws(',', array('x', null, 'y'))",
    ),
    "collect": ("select collect_list(s) as a, collect_set(s) as b from u",),
    "elements": (
        "array(1, 2)[0]",
        "array(1, 2)[5]",
        "array(1, 2)[-1]",
        "map('a', 1)['z']",
    ),
    "arrays": (
        "sort_array(array(3, null, 1))",
        "array_contains(array(1, null), 2)",
    ),
    "texts": (
        "instr('abcb', 'b')",
        "locate('b', 'abc')",
        "initcap('hello wORLD')",
        "lpad('7', 3, '0')",
        "translate('abc', 'ab', 'xy')",
        "length('héé')",
        "md5('a')",
        "sha2('a', 256)",
        "parse_url('http://ex.com/p/a?k=v#r', 'PATH')",
        "parse_url('http://user@ex.com:80/p/a?k=v&k2=v2#r', 'HOST')",
        ("parse_url('http://ex.com/p', 'AUTHORITY')", "parse_url(): the part 'AUTHORITY' is not translated"),
        ("conv('a', 16, 10)", "conv() cannot be translated: it has no exact counterpart in DuckDB"),
        ("crc32('a')", "crc32() cannot be translated: it has no exact counterpart in DuckDB"),
        ("printf('%d', 1)", "printf() cannot be translated: it has no exact counterpart in DuckDB"),
        ("format_number(1.5, 2)", "format_number() cannot be translated: it has no exact counterpart in DuckDB"),
        ("find_in_set('a', 'b')", "find_in_set() cannot be translated: it has no exact counterpart in DuckDB"),
        ("elt(1, 'a')", "elt() cannot be translated: it has no exact counterpart in DuckDB"),
        ("hash('a')", "hash() cannot be translated: it has no exact counterpart in DuckDB"),
        ("soundex('a')", "soundex() cannot be translated: it has no exact counterpart in DuckDB"),
        ("levenshtein('a', 'b')", "levenshtein() cannot be translated: it has no exact counterpart in DuckDB"),
    ),
    "rounding": (
        "round(2.5)",
        "round(-2.5)",
        "bround(2.5)",
    ),
    "order of NULL": (
        "select n from u order by s",
        "select n from u order by s desc",
    ),
    "lateral views": (
        "select id, x from u lateral view explode(l) e as x order by id, x",
        "select id, x from u lateral view outer explode(l) e as x where x is null order by id",
        "select p.pos, x from u lateral view posexplode(l) p as pos, x order by pos",
        "select id, k, v from u lateral view explode(m) e as k, v",
        ("posexplode(array(1))", "posexplode() cannot be translated: it returns several columns or rows"),
    ),
    "scripts": (
        (
            "select transform(id) using 'cat' as (x) from u",
            {
                "hive": "SELECT TRANSFORM ... USING runs a script, which DuckDB does not",
                "spark": "this column has no name",
            },
        ),
    ),
    "hints": (
        "select /*+ MAPJOIN(b) */ b.id from u a join u b on a.id = b.id where b.n = 1 distribute by id sort by id",
    ),
    "other statements": (
        ("set x = 1; select 1 as a", "a model must be a single SELECT; this one begins with SET"),
        (
            "insert overwrite table x select 1 as a",
            "a model must be a single SELECT; this one begins with INSERT OVERWRITE",
        ),
        ("delete from u", "a model must be a single SELECT; this one begins with DELETE"),
        ("select 1 as a; select 2 as a", "the model contains 2 statements"),
    ),
    "names by patterns": (
        ("select `(n)?+.+` from u", "columns chosen by a regular expression are not translated"),
        ("select grouping__id as g from u group by id with rollup", "GROUPING__ID has no counterpart in DuckDB"),
    ),
    "quotes": (
        '"text"',
        "'it\\'s'",
        "'\\t'",
    ),
    "reducers": ("select id from u cluster by id",),
    "conditions": (
        "nvl(null, 3)",
        "if(i > 1, 'x', 'y')",
        "i <=> 7",
        "select id from u a left semi join u b on a.n = b.n where id = 'd'",
    ),
    "subtotals": (
        "select id, count(*) as n, grouping(id) as g from u group by id with rollup order by id",
        "select id, count(*) as n from u group by id with cube order by id",
        "select id, count(*) as n from u group by id grouping sets ((id), ()) order by id",
    ),
    "time zone of timestamps": ("ts",),
}

TRINO: Mapping[str, tuple[Entry, ...]] = {
    "division of integers": (
        "7/2",
        "-7/2",
        "i/two",
        "big/1",
        ("1/0", ENDS),
        "try(1/0)",
    ),
    "division of decimals": (
        ("1.0/3", "a decimal divided by an integer or decimal is rounded to its scale"),
        ("e/two", "division of decimals is rounded to their scale: use CAST(x AS double) / y"),
    ),
    "division of doubles": ("d/two",),
    "number as an integer": (
        "cast(2.5e0 as bigint)",
        "cast(-17.5e0 as bigint)",
        "cast(e as bigint)",
    ),
    "text as an integer": (
        "cast('+5' as bigint)",
        ("cast('2.5' as bigint)", "a text is not an integer"),
        "try_cast('2.5' as bigint)",
        "try_cast(' 12 ' as bigint)",
        "try_cast('1e3' as bigint)",
    ),
    "double as text": (
        ("cast(37.7e0 as varchar)", "CAST of a double AS varchar is not translated: versions of Trino differ"),
        (
            "cast(d as varchar)",
            "versions of Trino write a double in different ways: use CAST(CAST(x AS decimal(18, 2)) AS varchar)",
        ),
    ),
    "other values as text": (
        "cast(cast(1.10 as decimal(10,2)) as varchar)",
        "cast(true as varchar)",
        "cast('abc' as varchar(2))",
        ("cast(123 as varchar(2))", "a value is longer than its varchar(n), and only texts are cut"),
    ),
    "time as text": (
        "cast(timestamp '2026-11-23 10:00:00' as varchar)",
        "cast(ts as varchar)",
        "cast(date_parse('2026-11-23', '%Y-%m-%d') as varchar)",
        "cast(from_unixtime(secs) as varchar)",
        "cast(from_unixtime(secs) at time zone 'Asia/Tokyo' as varchar)",
    ),
    "other types": (
        "cast('1.5' as double)",
        "cast('12.34' as decimal(10,2))",
        "cast('true' as boolean)",
        ("cast('10:00' as time)", "CAST AS TIME is not translated"),
        ("cast(w as varbinary)", "CAST AS VARBINARY is not translated"),
        ("cast(w as uuid)", "CAST AS UUID is not translated"),
    ),
    "from_unixtime": (
        "from_unixtime(secs)",
        "date_format(from_unixtime(secs, 'Asia/Tokyo'), '%Y-%m-%d %H:%i')",
        "cast(from_unixtime(secs, 'Asia/Tokyo') as date)",
    ),
    "time zones": (
        "from_unixtime(secs) at time zone 'Asia/Tokyo'",
        "at_timezone(from_unixtime(secs), 'Asia/Tokyo')",
        "timestamp '2026-11-23 14:00:00' at time zone 'Asia/Tokyo'",
        "with_timezone(timestamp '2026-11-23 09:00:00', 'Asia/Tokyo')",
        "timestamp '2026-11-23 09:00:00 Asia/Tokyo'",
        "date_trunc('day', from_unixtime(secs) at time zone 'Asia/Tokyo')",
        (
            "select x as y from (select from_unixtime(secs) at time zone 'Asia/Tokyo' as x from t) a",
            "a column of a subquery cannot keep the time zone that it is shown in",
        ),
    ),
    "to_unixtime": ("to_unixtime(from_unixtime(secs))",),
    "text as a time": (
        "cast('2026-11-23 10:00:00' as timestamp)",
        "date('2026-11-23')",
        "date_parse('2026-11-23 10:11', '%Y-%m-%d %H:%i')",
        ("date_parse('x', '%Y-%m-%d')", ENDS),
        "try(cast('x' as date))",
    ),
    "date and interval": (
        "date '2026-01-31' + interval '1' day",
        "date '2026-01-31' + interval '1' month",
        "date_add('day', 1, date '2026-01-31')",
        ("dt + interval '1' day", "whether this is a date or a timestamp is not known here"),
    ),
    "date_diff": (
        "date_diff('day', timestamp '2026-11-23 23:00:00', timestamp '2026-11-24 01:00:00')",
        "date_diff('month', date '2026-01-31', date '2026-02-28')",
        "date_diff('week', date '2026-11-15', date '2026-11-23')",
        "date_diff('year', date '2025-12-31', date '2026-01-01')",
    ),
    "date_format": (
        "date_format(ts, '%e %c %k %l %h %i %s %M %W %T %r %f %x %v %% %j %y %p %a %b %d %m')",
        ("date_format(ts, '%D')", "date_format(): format '%D': \"%D\" is not supported by Trino either"),
        ("date_format(ts, '%U')", "date_format(): format '%U': \"%U\" is not supported by Trino either"),
        ("date_format(ts, '%u')", "date_format(): format '%u': \"%u\" is not supported by Trino either"),
        ("date_format(ts, '%V')", "date_format(): format '%V': \"%V\" is not supported by Trino either"),
        ("date_format(ts, '%w')", "date_format(): format '%w': \"%w\" is not supported by Trino either"),
        ("date_format(ts, '%X')", "date_format(): format '%X': \"%X\" is not supported by Trino either"),
    ),
    "Joda's patterns": (
        "format_datetime(ts, 'YYYY-MM-dd HH:mm:ss')",
        "parse_datetime('2026-11-23', 'yyyy-MM-dd')",
        ("format_datetime(ts, 'x')", "format_datetime(): pattern 'x': \"x\" is not translated"),
        ("format_datetime(ts, 'e')", "format_datetime(): pattern 'e': \"e\" is not translated"),
        ("format_datetime(ts, 'w')", "format_datetime(): pattern 'w': \"w\" is not translated"),
        ("format_datetime(ts, 'C')", "format_datetime(): pattern 'C': \"C\" is not translated"),
        ("format_datetime(ts, 'K')", "format_datetime(): pattern 'K': \"K\" is not translated"),
        ("format_datetime(ts, 'k')", "format_datetime(): pattern 'k': \"k\" is not translated"),
    ),
    "ISO 8601": (
        "to_iso8601(date '2026-11-23')",
        "to_iso8601(timestamp '2026-11-23 10:00:00')",
        "to_iso8601(from_unixtime(secs))",
        "to_iso8601(from_unixtime(secs, 'Asia/Tokyo'))",
        "from_iso8601_timestamp('2026-11-23T10:00:00+09:00')",
        "from_iso8601_date('2026-11-23')",
        ("from_iso8601_date('2020-W10')", ENDS),
    ),
    "parts of times": (
        "day_of_week(date '2026-11-22')",
        "dow(date '2026-11-23')",
        "week(date '2026-11-23')",
        "extract(dow from date '2026-11-22')",
    ),
    "max_by and min_by": (
        "select map_agg(id, n), max_by(s, n), min_by(s, n), arbitrary(id) is not null, any_value(s) from u",
        ("select max_by(s, n, 2) from u", "max_by() with 3 arguments is not translated"),
    ),
    "regular expressions": (
        "regexp_extract('x', '([0-9]+)')",
        "regexp_extract('a', 'a()', 1)",
        (
            "regexp_extract('b', '(a)?b', 1)",
            "regexp_extract(): a group that may be left out is NULL in Trino, and empty in DuckDB",
        ),
        ("regexp_extract('a12', 'a([0-9]+)', 5)", "the regular expression has 1 group, and no group 5"),
        "regexp_replace('ab', '(a)(b)', '$2$1')",
        ("regexp_replace('ab', '(?<x>a)', '${x}')", "regexp_replace(): the replacement names a group: ${name}"),
        ("regexp_replace('ab', '(a)', x -> upper(x[1]))", "regexp_replace(): the replacement is a function"),
        ("regexp_like('abc', '(?=b)')", "the regular expression uses (?=, which DuckDB does not have"),
        ("regexp_like('abc', '(b)\\1')", "the regular expression uses \\1, which DuckDB does not have"),
    ),
    "split": (
        "split_part('a,b', ',', 3)",
        "split_part('a,,b', ',', 2)",
        "split('a,b', ',')[2]",
        "split('a,b', ',')[3]",
    ),
    "elements": (
        "array[1, 2][9]",
        "map(array['a'], array[1])['z']",
        "element_at(array[1, 2], 9)",
        "element_at(array[1, 2], -1)",
        "element_at(map(array['a'], array[1]), 'a')",
    ),
    "JSON at a path": (
        "json_extract_scalar(doc, '$.a')",
        "json_extract_scalar(doc, '$.n')",
        "json_extract_scalar(doc, '$.y')",
        "json_extract_scalar(bad, '$.a')",
        "json_extract(bad, '$.a')",
        "json_extract_scalar('{\"a b\": 1}', '$[\"a b\"]')",
        "json_extract_scalar(doc, '$[t]')",
        "json_extract_scalar(doc, '$.l[0]')",
        ("json_extract(doc, '$.l[*]')", "json_extract(): the path '$.l[*]' is not translated"),
        ("json_extract(doc, '$..a')", "json_extract(): the path '$..a' is not translated"),
    ),
    "JSON of values": (
        "try(json_parse('bad'))",
        ("json_parse('bad')", ENDS),
        "json_format(cast('123' as json))",
        "json_format(cast(w as json))",
        "cast(json_extract(doc, '$.t') as varchar)",
        (
            "cast(json_extract(doc, '$.a') as varchar)",
            "a JSON object or array does not become text: use json_format(x)",
        ),
        "json_format(cast(map(array['a'], array[1]) as json))",
        "json_format(cast(array[1, null] as json))",
        "json_format(cast(cast(row(1, 'x') as row(a integer, b varchar)) as json))",
        (
            "json_format(cast(row(1, 'x') as json))",
            "a row without names as JSON is not translated: versions of Trino differ",
        ),
    ),
    "JSON arrays": (
        "json_size(doc, '$.l')",
        "json_size(doc, '$.a')",
        "json_size(doc, '$.t')",
        "json_size(doc, '$.none')",
        "json_array_length('[1, 2]')",
        "json_array_contains('[1, 2]', 2)",
        ("json_array_get('[1, 2]', 0)", "json_array_get() cannot be translated: its result depends on the version"),
    ),
    "JSON of the standard": (
        (
            "json_query('{}', 'lax $.a')",
            "json_query() cannot be translated: JSON functions of the SQL standard are not translated",
        ),
        (
            "json_value('{}', 'lax $.a')",
            "json_value() cannot be translated: JSON functions of the SQL standard are not translated",
        ),
        (
            "json_exists('{}', 'lax $.a')",
            "json_exists() cannot be translated: JSON functions of the SQL standard are not translated",
        ),
        (
            "json_array(1, 2)",
            "json_array() cannot be translated: JSON functions of the SQL standard are not translated",
        ),
        (
            "json_table('{}', 'lax $')",
            "json_table() cannot be translated: JSON functions of the SQL standard are not translated",
        ),
    ),
    "format": (
        "format('%s-%05d', 'gold', 1250)",
        "format('%,d', 1234567)",
        "format('%.2f', 1.005e0)",
        "format('%.2f', i)",
        "format('%.2f%%', d)",
        "format('%2$s%1$s', 'a', 'b')",
        "format('%s', yes)",
        ("format('%s', d)", "%s takes texts, integers, decimals, booleans and dates: cast it"),
        ("format('%,.2f', d)", "format(): %,.2f is not translated"),
        ("format('%tY', ts)", "format(): %t is not translated"),
    ),
    "parts of texts": (
        "substr('abc', 0, 2)",
        "substr('abc', zero)",
        "substr('abc', -50, 4)",
        "substr('abc', -2, 1)",
    ),
    "concat": (
        "concat('a', null)",
        "'a' || null",
        "concat_ws('-', 'a', null, 'b')",
        "array_join(array['x', null, 'y'], ',')",
        "array_join(array['x', null], ',', '-')",
    ),
    "greatest and least": (
        "greatest(1, null)",
        "least(1, null)",
    ),
    "maps": (
        "map_filter(map(array['a', 'b'], array[1, 2]), (k, v) -> v > 1)",
        "transform_values(map(array['a'], array[1]), (k, v) -> v + 1)",
        (
            "select multimap_agg(id, n) from u",
            "multimap_agg() cannot be translated: it has no exact counterpart in DuckDB",
        ),
        ("select map_union(m) from u", "map_union() cannot be translated: it has no exact counterpart in DuckDB"),
        "select array_agg(s order by n), listagg(id, '-') within group (order by n desc), histogram(id) from u",
    ),
    "matches in arrays": (
        "any_match(array[1, 2], x -> x > 1)",
        "any_match(array[1, null], x -> x > 1)",
        "all_match(array[1, 2], x -> x > 1)",
        "all_match(array[1, null], x -> x > 0)",
        "none_match(array[1, 2], x -> x > 2)",
        "none_match(array[1, null], x -> x > 1)",
        (
            "zip_with(array[1], array[2], (x, y) -> x + y)",
            "zip_with() cannot be translated: it has no exact counterpart in DuckDB",
        ),
        "reduce(array[1, 2], 0, (s, x) -> s + x, s -> s)",
        ("reduce(array[1], 0, (s, x) -> s, s -> s + 1)", "reduce(): the last argument must be s -> s"),
        "select count_if(n > 1), every(n > 1), bool_and(n > 0), bool_or(n > 1), approx_distinct(id), approx_percentile(n, 0.5) from u",
    ),
    "arrays": (
        "transform(array[1, 2], x -> x + 1)",
        "filter(array[1, 2], x -> x > 1)",
        "flatten(array[array[1], array[2]])",
        "array_distinct(array['b', 'a', 'b', null, null])",
        "array_sort(array[3, null, 1])",
        "array_max(array[1, 3])",
        "array_min(array[1, 3])",
        "array_intersect(array[3, 1, null, 3], array[3, null])",
        "array_except(array[3, 1, null, 3], array[3])",
        "array_union(array[3, 1], array[1, 2])",
        "arrays_overlap(array[1, null], array[2])",
        "array_position(array[1, 3], 3)",
        "cardinality(array[1, 2])",
        "contains(array[1, null], 2)",
        "slice(array[1, 2, 3], -2, 2)",
        "slice(array[1, 2, 3], 2, 2)",
    ),
    "sequences": (
        "sequence(1, 3)",
        "sequence(3, 1)",
        ("sequence(5, 1, 2)", "sequence(): the step leads away from the end"),
        "sequence(date '2026-01-01', date '2026-01-02')",
    ),
    "UNNEST": (
        "select x, y from u cross join unnest(l, l) as e(x, y) where x > 3",
        "select k, v from u cross join unnest(m) as e(k, v)",
        "select x, n1 from u cross join unnest(l) with ordinality as e(x, n1) order by n1",
    ),
    "addresses": (
        "url_extract_host('https://u@ex.com:80/p?k=a+b#f')",
        "url_extract_path('https://ex.com/p/q?k=v')",
        "url_extract_query('https://ex.com/p?k=v#f')",
        "url_extract_parameter('https://ex.com/?k=a+b%26', 'k')",
        "url_extract_parameter('https://ex.com/', 'k')",
        "url_extract_protocol('https://ex.com')",
        "url_extract_fragment('https://ex.com#f')",
        (
            "url_extract_port('https://ex.com:80')",
            "url_extract_port() cannot be translated: it has no exact counterpart in DuckDB",
        ),
        "url_encode('a b&c*~')",
        "url_decode('a+b')",
    ),
    "approximations": (
        ("select approx_set(n) from u", "approx_set() cannot be translated: its result is approximate"),
        (
            "select approx_most_frequent(3, n, 10) from u",
            "approx_most_frequent() cannot be translated: its result is approximate",
        ),
    ),
    "deviation": (
        "select round(stddev(n), 3), round(stddev_samp(n), 3), stddev_pop(n), variance(n), var_samp(n), var_pop(n) from u",
    ),
    "text beside a number": ("'1' = 1",),
    "now": (
        "now() > from_unixtime(0)",
        "current_timestamp > from_unixtime(0)",
        "current_date > dt",
        ("localtimestamp", "localtimestamp is not translated"),
    ),
    "order of NULL": (
        "select id from u order by s",
        "select id from u order by s desc",
    ),
    "functions without a counterpart": (
        ("split_to_map('a=1', ',', '=')", "split_to_map() cannot be translated: it has no exact counterpart in DuckDB"),
        ("word_stem('a')", "word_stem() cannot be translated: it has no exact counterpart in DuckDB"),
        ("soundex('a')", "soundex() cannot be translated: it has no exact counterpart in DuckDB"),
        (
            "hamming_distance('a', 'b')",
            "hamming_distance() cannot be translated: it has no exact counterpart in DuckDB",
        ),
        ("codepoint('a')", "codepoint() cannot be translated: it has no exact counterpart in DuckDB"),
        (
            "human_readable_seconds(1)",
            "human_readable_seconds() cannot be translated: it has no exact counterpart in DuckDB",
        ),
        ("st_point(1, 2)", "function st_point() is not known here"),
    ),
    "clauses": (
        ("select * from u tablesample bernoulli (10)", "TABLESAMPLE returns other rows in every run"),
        (
            "select * from u match_recognize (partition by id order by n measures a.n as x pattern (a) define a as n > 1)",
            "MATCH_RECOGNIZE has no counterpart in DuckDB",
        ),
        "select corr(n, n), covar_pop(n, n), covar_samp(n, n), count(*) filter (where n > 1) from u",
        "with a as (select id from u limit 1) select count(*) as n from a cross join u",
    ),
    "digests": (
        "to_hex(sha256(to_utf8('a')))",
        ("from_utf8(to_utf8('a'))", "from_utf8() cannot be translated: bytes are not translated"),
        ("md5(to_utf8('a'))", "bytes are translated inside of to_hex() only"),
    ),
    "texts": (
        "lpad('7', 3, '0')",
        "strpos('abc', 'c')",
    ),
}
CONSTRUCTS = {"hive": HIVE_AND_SPARK, "spark": HIVE_AND_SPARK, "trino": TRINO}
MODEL = re.compile(r"(select|with|set|insert|delete) ")


def entries(dialect: str) -> Iterator[tuple[str, str]]:
    """Each SQL, and what is expected of it."""
    for entry in (entry for listed in CONSTRUCTS[dialect].values() for entry in listed):
        sql, said = (entry, PROVED) if isinstance(entry, str) else entry
        yield sql, said if isinstance(said, str) else said[dialect]


def verdict(sql: str, dialect: str, connection: DuckDBPyConnection) -> str:
    """What becomes of SQL: it is one of the cases, or what the message says behind the name of the dialect."""
    if any(case.sql == sql for part in PROOFS[dialect] for case in part):
        return PROVED
    try:
        made = translated(sql if MODEL.match(sql) else f"SELECT {sql} AS x FROM t", dialect).sql
        rows = connection.execute(made).fetchall()
    except ProjectError as error:
        said = str(error).splitlines()[0].removeprefix("models/a.sql").partition(": ")[2]
        return said.removeprefix(f"{dialect}: ")
    except duckdb.Error as error:
        _, own, said = str(error).splitlines()[0].partition(f": {dialect}: ")
        return said if own else ENDS
    return f"neither proved nor refused: {rows}"


@pytest.mark.parametrize("dialect", CONSTRUCTS)
def test_every_construct_is_proved_or_refused_by_name(warehouse: DuckDBPyConnection, dialect: str):
    expected = dict(entries(dialect))
    assert {sql: verdict(sql, dialect, warehouse) for sql in expected} == expected


@pytest.mark.parametrize("dialect", CONSTRUCTS)
def test_every_refused_function_is_named(dialect: str):
    """By its name, not by that of another one that DuckDB has."""
    for sql, said in entries(dialect):
        if said != PROVED and "cannot be translated" in said:
            assert said.partition("(")[0] in sql, sql


def test_what_differs_is_noted():
    """Cases with a result that the engine does not have are few, and in docs/dialects.md."""
    noted = {
        dialect: [case.sql for part in parts for case in part if case.source == cases.NOTED]
        for dialect, parts in PROOFS.items()
    }
    assert {dialect: len(listed) for dialect, listed in noted.items()} == {"hive": 4, "spark": 3, "trino": 4}
