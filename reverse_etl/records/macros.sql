-- All texts of a JSON document in their order, with their quotes; one that is a key ends with its colon.
CREATE OR REPLACE TEMP MACRO retl_json_texts(document) AS
    regexp_extract_all(document, '"(?:[^"\\]|\\.)*"\s*:?');

CREATE OR REPLACE TEMP MACRO retl_json_unquoted(quoted) AS
    json_extract_string(rtrim(rtrim(quoted, ':')), '$');

-- A JSON document with its texts emptied: what is left are numbers, words and punctuation.
CREATE OR REPLACE TEMP MACRO retl_json_bones(document) AS
    regexp_replace(document, '"(?:[^"\\]|\\.)*"', '""', 'g');

CREATE OR REPLACE TEMP MACRO retl_json_numbers(bones) AS
    regexp_extract_all(bones, '-?[0-9][0-9.eE+-]*');

-- A key of nested data, without its quotes.
CREATE OR REPLACE TEMP MACRO retl_is_bad_key(key, in_attribute) AS
    length(key) NOT BETWEEN 1 AND retl_max_text()
    OR (in_attribute AND regexp_matches(key, '[.$\s]') AND NOT list_contains(retl_dollar_keys(), key))
    OR (NOT in_attribute AND starts_with(key, '$'));

-- A time inside nested data: a quoted text that reads as one, in the years that Braze keeps.
CREATE OR REPLACE TEMP MACRO retl_is_nested_time(quoted) AS
    regexp_matches(quoted, '^"[0-9]{4}-')
    AND coalesce(year(TRY_CAST(trim(quoted, '"') AS TIMESTAMPTZ)) BETWEEN 0 AND retl_last_year(), false);

-- What is wrong with the numbers, words and punctuation of a valid document: 1, 2, 3, 4 as below, or 0.
CREATE OR REPLACE TEMP MACRO retl_json_bones_fault(bones, in_attribute) AS
    CASE
        WHEN regexp_matches(bones, ',\s*[\]}]') THEN 1
        WHEN regexp_matches(bones, '(?i)nan|inf')
            OR len(list_filter(
                retl_json_numbers(bones),
                lambda n: contains(lower(n), 'e') AND NOT coalesce(isfinite(TRY_CAST(n AS DOUBLE)), false)
            )) > 0
            THEN 2
        WHEN regexp_matches(bones, '[0-9]{19}')
            AND len(list_filter(
                retl_json_numbers(bones),
                lambda n: regexp_full_match(n, '-?[0-9]{19,}')
                    AND TRY_CAST(n AS BIGINT) IS NULL AND TRY_CAST(n AS UBIGINT) IS NULL
            )) > 0
            THEN 3
        WHEN in_attribute AND contains(bones, 'null') THEN 4
        ELSE 0
    END;

-- 0, or the number of the first fault of a valid JSON document (see JSON_FAULTS in json_text.py).
-- Every expensive check is guarded by a cheap one that misses no fault.
CREATE OR REPLACE TEMP MACRO retl_json_fault_of_suspect(document, in_attribute) AS
    CASE
        WHEN regexp_matches(document, '(?i)nan|inf|null|[0-9]{19}|[0-9]e|,\s*[\]}]')
            AND retl_json_bones_fault(retl_json_bones(document), in_attribute) > 0
            THEN retl_json_bones_fault(retl_json_bones(document), in_attribute)
        WHEN in_attribute AND contains(document, '"$time"')
            AND len(list_filter(
                regexp_extract_all(document, '"\$time"\s*:\s*("(?:[^"\\]|\\.)*"|[^,}\]\s]*)', 1),
                lambda t: NOT retl_is_nested_time(t)
            )) > 0
            THEN 5
        WHEN (
                strlen(document) > retl_max_text() + 2
                OR regexp_matches(document, '"(?:\\.|[^"])*[.$\s\\](?:\\.|[^"])*"\s*:|""\s*:')
            )
            AND len(list_filter(
                retl_json_texts(document),
                lambda t: t LIKE '%:' AND retl_is_bad_key(retl_json_unquoted(t), in_attribute)
            )) > 0
            THEN 6
        WHEN strlen(document) > retl_max_text() + 2
            AND regexp_matches(document, '"(?:[^"\\]|\\.){' || (retl_max_text() + 1) || ',}"')
            AND len(list_filter(
                retl_json_texts(document),
                lambda t: strlen(t) > retl_max_text() + 2 AND t NOT LIKE '%:'
                    AND length(retl_json_unquoted(t)) > retl_max_text()
            )) > 0
            THEN 7
        WHEN strlen(document) > retl_max_json_bytes() THEN 8
        WHEN in_attribute AND regexp_matches(document, '^\s*\[')
            AND json_array_length(document) > retl_max_array_items()
            THEN 9
        ELSE 0
    END;

-- The same of any JSON document.
CREATE OR REPLACE TEMP MACRO retl_json_fault(document, in_attribute) AS
    CASE
        WHEN document IS NULL THEN 0
        WHEN NOT json_valid(document) THEN 1
        ELSE retl_json_fault_of_suspect(document, in_attribute)
    END;

-- A JSON document whose numbers are strings: a parser would give 1.10 and 1.1 one text. Strings get a mark, so that none
-- of them is taken for a number.
CREATE OR REPLACE TEMP MACRO retl_json_quoted_numbers(document) AS
    array_to_string(
        list_transform(
            regexp_extract_all(document, '"(?:[^"\\]|\\.)*"|[^"]+'),
            lambda part: CASE
                WHEN starts_with(part, '"') THEN '"_' || substr(part, 2)
                ELSE regexp_replace(part, '-?[0-9][0-9.eE+-]*', '"\0"', 'g')
            END
        ),
        ''
    );

-- The document with its keys in order and without blanks; NULL if a key occurs twice in an object: which of them counts
-- depends on their order. VARIANT keeps one of each.
CREATE OR REPLACE TEMP MACRO retl_json_in_order(document) AS
    list_transform(
        [json_normalize(document)],
        lambda sorted: CASE WHEN json_normalize(CAST(CAST(CAST(sorted AS JSON) AS VARIANT) AS JSON)) = sorted THEN sorted END
    )[1];

-- Whether one of its numbers has another text than a parser would give it. Digits of an escape such as \u00e9 are none.
CREATE OR REPLACE TEMP MACRO retl_json_has_numbers(document) AS
    regexp_matches(regexp_replace(document, '\\u[0-9a-fA-F]{4}', '', 'g'), '[0-9][.eE]|-0');

-- A text that two JSON documents share only if they are equal to every reader of JSON: whatever the order of keys, the
-- blanks and the escapes of characters. Numbers keep their texts; what is not valid JSON is its own text.
CREATE OR REPLACE TEMP MACRO retl_json_canonical(document) AS
    coalesce(
        TRY(CASE
            WHEN retl_json_has_numbers(document) THEN '#' || retl_json_in_order(retl_json_quoted_numbers(document))
            ELSE retl_json_in_order(document)
        END),
        CASE WHEN trim(document, E' \t\n\r') = 'null' THEN 'null' ELSE document END -- JSON's null is none to DuckDB
    );

-- Whether merging `new` into `old` would leave a key that `new` does not have: a merge cannot remove keys.
CREATE OR REPLACE TEMP MACRO retl_loses_key(old, new) AS
    coalesce(strlen(json_merge_patch(old, new)) > strlen(json_merge_patch(new, new)), false);

-- The JSON text of a value whatever its type, without keys that are NULL; NULL if it is text that is no JSON.
CREATE OR REPLACE TEMP MACRO retl_any_json(value) AS
    TRY(json_merge_patch(
        '{}',
        CASE WHEN typeof(value) IN ('VARCHAR', 'JSON') THEN CAST(value AS VARCHAR) ELSE CAST(to_json(value) AS VARCHAR) END
    ));

-- The objects of a JSON document without what is in arrays (six deep), and with timestamps as plain values.
CREATE OR REPLACE TEMP MACRO retl_json_without_arrays(bones) AS
    list_reduce(
        [bones, '', '', '', '', '', ''],
        lambda text, _: regexp_replace(text, '\[[^\[\]]*\]', '0', 'g')
    );

-- The keys of a document and of the objects in it, but for those in arrays. It reads all texts, so simpler documents do
-- without it.
CREATE OR REPLACE TEMP MACRO retl_json_key_count(document) AS
    len(regexp_extract_all(
        retl_json_without_arrays(
            retl_json_bones(regexp_replace(document, '\{\s*"\$time"\s*:\s*"[^"]*"\s*\}', '0', 'g'))
        ),
        '""\s*:'
    ));

-- The members of an object that are objects themselves.
CREATE OR REPLACE TEMP MACRO retl_json_objects(document) AS
    list_filter(json_extract(document, '$.*'), lambda member: starts_with(member, '{'));

-- How many braces a document has more than an object needs: those of objects in it, and those in texts.
CREATE OR REPLACE TEMP MACRO retl_json_braces(document) AS
    strlen(document) - strlen(replace(document, '{', '')) - 1;

-- What setting an attribute to a JSON document costs: 1 for each key of an object and of objects in it, 1 for each value
-- that is added to an array or removed from it, else 1.
CREATE OR REPLACE TEMP MACRO retl_data_points(document) AS
    CASE
        WHEN NOT json_valid(document) OR NOT regexp_matches(document, '^\s*\{') THEN 1
        WHEN regexp_matches(document, '^\s*\{\s*"\$time"\s*:') THEN 1
        WHEN regexp_matches(document, '^\s*\{\s*"(\$?add|\$?remove|\$update)"\s*:\s*\[')
            THEN list_sum(json_array_length(document, ['$.add', '$.remove', '$."$add"', '$."$remove"', '$."$update"']))
        ELSE coalesce(
            CASE
                WHEN NOT contains(document, '"$time"') THEN list_transform(
                    [retl_json_objects(document)],
                    lambda objects: CASE
                        WHEN retl_json_braces(document) = len(objects)
                            THEN len(json_keys(document))
                                + coalesce(list_sum(list_transform(objects, lambda one: len(json_keys(one)))), 0)
                    END
                )[1]
            END,
            retl_json_key_count(document)
        )
    END;

CREATE OR REPLACE TEMP MACRO retl_json_or_null(document) AS
    CASE WHEN json_valid(document) THEN document END;

-- The items of a JSON array; none of anything else.
CREATE OR REPLACE TEMP MACRO retl_json_items(document) AS
    CASE
        WHEN json_valid(document) AND regexp_matches(document, '^\s*\[') THEN json_extract(document, '$[*]')
        ELSE CAST([] AS JSON[])
    END;

CREATE OR REPLACE TEMP MACRO retl_is_group(id) AS
    regexp_full_match(id, '(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}');

-- user_guide: email validation. Syntax alone; of domains, whether there is such a one at the top is left to Braze.
CREATE OR REPLACE TEMP MACRO retl_is_email(address) AS
    regexp_full_match(
        address,
        '[^\s\p{Z}\p{Cc}"@.]([^\s\p{Z}\p{Cc}"@]*[^\s\p{Z}\p{Cc}"@.])?@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+([A-Za-z]{2,63}|(?i:xn)--[A-Za-z0-9-]{0,58}[A-Za-z0-9])'
    )
    AND strpos(address, '@') <= 65
    AND NOT (length(address) = 11 AND regexp_matches(address, '(?i)^.@gmail\.com$'))
    AND (
        NOT regexp_matches(address, '(?i)@.*(msn|hotmail|outlook|live)')
        OR regexp_matches(address, '^[\w-]+(\.[\w-]+)*(\+[^@]*)?@')
    );

CREATE OR REPLACE TEMP MACRO retl_is_full_phone(phone) AS
    regexp_full_match(phone, '\+[1-9][0-9]{6,14}');

-- user_guide: user phone numbers. Signs other than digits and a + before them do not count; ten digits are a number of
-- the US.
CREATE OR REPLACE TEMP MACRO retl_is_phone(phone) AS
    regexp_full_match(
        regexp_replace(phone, '[^0-9+]', '', 'g'), '\+[1-9][0-9]{6,14}|[2-9][0-9]{2}[2-9][0-9]{6}'
    );

-- Whether an attribute is an operator that changes the stored value, with an operand that Braze does not take.
CREATE OR REPLACE TEMP MACRO retl_is_bad_operator(document) AS
    CASE
        WHEN NOT regexp_matches(document, '^\s*\{\s*"(inc|add|remove|\$add|\$remove|\$update)"\s*:')
            OR NOT json_valid(document) THEN false
        WHEN json_keys(document) = ['inc'] THEN json_type(document, '$.inc') NOT IN ('BIGINT', 'UBIGINT')
        WHEN list_has_all(['add', 'remove'], json_keys(document))
            THEN coalesce(json_type(document, '$.add') <> 'ARRAY', false)
                OR coalesce(json_type(document, '$.remove') <> 'ARRAY', false)
                OR len(list_filter(
                    list_concat(json_extract(document, '$.add[*]'), json_extract(document, '$.remove[*]')),
                    lambda item: json_type(item) = 'OBJECT'
                )) > 0
        WHEN list_has_all(['$add', '$remove', '$update'], json_keys(document))
            THEN len(list_filter(json_keys(document), lambda key: json_type(document, '$."' || key || '"') <> 'ARRAY')) > 0
                OR len(list_filter(
                    json_extract(document, '$."$add"[*]'), lambda item: json_type(item) <> 'OBJECT'
                )) > 0
                OR len(list_filter(
                    list_concat(json_extract(document, '$."$remove"[*]'), json_extract(document, '$."$update"[*]')),
                    lambda item: coalesce(json_type(item, '$."$identifier_key"'), '') <> 'VARCHAR'
                        OR coalesce(json_type(item, '$."$identifier_value"'), 'NULL') = 'NULL'
                )) > 0
                OR len(list_filter(
                    json_extract(document, '$."$update"[*]'),
                    lambda item: coalesce(json_type(item, '$."$new_object"'), '') <> 'OBJECT'
                )) > 0
        ELSE false
    END;

-- What is left of the numbers, words and punctuation of a document once its innermost brackets are gone, so many times.
CREATE OR REPLACE TEMP MACRO retl_json_beyond_depth(bones, depth) AS
    list_reduce(
        list_prepend(bones, list_transform(range(depth), lambda _: '')),
        lambda text, _: regexp_replace(text, '[\[{][^\[\]{}]*[\]}]', '0', 'g')
    );

-- 0, or the number of the first of ITEM_FAULTS of any JSON document.
CREATE OR REPLACE TEMP MACRO retl_item_fault(document) AS
    CASE
        WHEN document IS NULL THEN 0
        WHEN NOT json_valid(document) THEN 1
        WHEN regexp_matches(document, '(?i)nan|inf|[0-9]{19}|[0-9]e|,\s*[\]}]')
            AND retl_json_bones_fault(retl_json_bones(document), false) > 0
            THEN retl_json_bones_fault(retl_json_bones(document), false)
        WHEN length(document) > retl_max_item_text() THEN 10
        WHEN NOT regexp_matches(document, '^\s*[\[{]') THEN 15
        WHEN regexp_matches(document, '"(?:\\.|[^"\\])*[.$\\](?:\\.|[^"\\])*"\s*:')
            AND len(list_filter(
                retl_json_texts(document),
                lambda t: t LIKE '%:' AND regexp_matches(retl_json_unquoted(t), '[.$]')
            )) > 0
            THEN 11
        WHEN strlen(document) - strlen(replace(replace(document, '{', ''), '[', '')) > retl_max_item_depth()
            AND regexp_matches(retl_json_beyond_depth(retl_json_bones(document), retl_max_item_depth()), '[\[{]')
            THEN 12
        WHEN regexp_matches(document, '^\s*\[')
            AND len(list_filter(json_extract(document, '$[*]'), lambda item: json_type(item) <> 'VARCHAR')) > 0
            THEN 13
        WHEN regexp_matches(document, '^\s*\[') AND json_array_length(document) > retl_max_item_array() THEN 14
        ELSE 0
    END;
