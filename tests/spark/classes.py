"""The classes of Hive's functions, below org.apache.hadoop.hive.ql.udf."""

CLASSES = {
    **{name: f"UDF{of}" for name, of in {
        "year": "Year", "month": "Month", "day": "DayOfMonth", "dayofmonth": "DayOfMonth", "hour": "Hour", "minute": "Minute",
        "second": "Second", "weekofyear": "WeekOfYear", "dayofweek": "DayOfWeek", "from_unixtime": "FromUnixTime",
        "substr": "Substr", "substring": "Substr", "regexp_extract": "RegExpExtract", "regexp_replace": "RegExpReplace",
        "get_json_object": "Json", "parse_url": "ParseUrl", "md5": "Md5", "sha1": "Sha1", "sha": "Sha1", "ascii": "Ascii",
        "chr": "Chr", "repeat": "Repeat", "reverse": "Reverse", "space": "Space", "ln": "Ln", "log10": "Log10", "log2": "Log2",
        "sqrt": "Sqrt", "exp": "Exp", "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin", "acos": "Acos", "atan": "Atan",
        "degrees": "Degrees", "radians": "Radians", "sign": "Sign", "e": "E", "pi": "PI",
    }.items()},
    **{name: f"generic.GenericUDF{of}" for name, of in {
        "nvl": "Nvl", "nullif": "Nullif", "isnull": "OPNull", "isnotnull": "OPNotNull",
        "date_format": "DateFormat", "unix_timestamp": "ToUnixTimeStamp", "date_add": "DateAdd", "date_sub": "DateSub",
        "add_months": "AddMonths", "last_day": "LastDay", "trunc": "Trunc", "months_between": "MonthsBetween",
        "datediff": "DateDiff", "quarter": "Quarter", "to_date": "Date", "from_utc_timestamp": "FromUtcTimestamp",
        "to_utc_timestamp": "ToUtcTimestamp", "concat": "Concat", "concat_ws": "ConcatWS", "split": "Split", "instr": "Instr",
        "locate": "Locate", "initcap": "InitCap", "lpad": "Lpad", "rpad": "Rpad", "translate": "Translate", "length": "Length",
        "char_length": "CharacterLength", "character_length": "CharacterLength", "lower": "Lower", "lcase": "Lower",
        "upper": "Upper", "ucase": "Upper", "ltrim": "LTrim", "rtrim": "RTrim", "sha2": "Sha2",
        "substring_index": "SubstringIndex", "round": "Round", "bround": "BRound", "abs": "Abs", "size": "Size",
        "sort_array": "SortArray", "array_contains": "ArrayContains", "map_keys": "MapKeys", "map_values": "MapValues",
        "str_to_map": "StringToMap", "regexp": "RegExp",
    }.items()},
}  # fmt: skip
CASTS = {
    "INT": "UDFToInteger",
    "BIGINT": "UDFToLong",
    "DOUBLE": "UDFToDouble",
    "BOOLEAN": "UDFToBoolean",
    "TEXT": "UDFToString",
    "TIMESTAMP": "generic.GenericUDFTimestamp",
}
