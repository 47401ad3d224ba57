"""syncs.yml in the words of Treasure Data's console, and of its page at Braze."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from reverse_etl import Project
from reverse_etl.braze.modes import mode_names, record_types
from reverse_etl.project.json_schema import json_schema
from reverse_etl.project.labels import KEYS, MODES, RECORD_TYPES
from tests.project.test_schema import is_valid
from tests.project.test_spec import GOOD, HEAD, problems, read
from tests.shop import Retl, Shop


def sync(text: str) -> str:
    """A syncs.yml with one sync, whose name is on line 7 and whose keys follow."""
    return HEAD + "  - name: members\n    model: members\n" + "".join(f"    {line}\n" for line in text.splitlines())


def notes(text: str) -> list[str]:
    return [str(warning) for warning in read(text).notes]


@pytest.mark.parametrize(
    ("label", "word"),
    [
        *((label, word) for word, one in MODES.items() for label in one.labels),
        ("user-track", "users_track"),
        ("USER TRACK", "users_track"),
        ("user_delete", "users_delete"),
    ],
)
def test_label_of_a_mode_is_read_and_noted(label: str, word: str):
    more = {"users_track": "track_record_type: events", "users_delete": "allow_destructive: true"}.get(word, "")
    text = sync(f"mode: {label}\n{more}")
    assert [one.mode_name for one in read(text).syncs] == [word]
    assert notes(text) == [
        f'syncs.yml:9:5: "mode: {label}" is read as "mode: {word}", as retl spells it\n  hint: write mode: {word}'
    ]


@pytest.mark.parametrize(
    ("label", "word"),
    [
        *((label, word) for word, one in RECORD_TYPES.items() for label in one.labels),
        ("custom-events", "events"),
        ("user profile  attributes", "attributes"),
    ],
)
def test_label_of_a_record_type_is_read_and_noted(label: str, word: str):
    text = sync(f'mode: users_track\ntrack_record_type: "{label}"')
    assert [one.track_record_type for one in read(text).syncs] == [word]
    assert notes(text) == [
        f'syncs.yml:10:5: "track_record_type: {label}" is read as "track_record_type: {word}", as retl spells it\n'
        f"  hint: write track_record_type: {word}"
    ]


@pytest.mark.parametrize(
    ("label", "word"),
    [*((label, word) for word, one in KEYS.items() for label in one.labels), ("pre_formated_fields",) * 2],
)
def test_label_of_a_key_is_read_and_noted(label: str, word: str):
    word = "pre_formatted_fields" if word == "pre_formated_fields" else word
    keys = {"mode": "users_track", "track_record_type": "events", "pre_formatted_fields": "properties"}
    keys["skip_on_invalid_records"] = "true"
    lines = {label if key == word else key: value for key, value in keys.items()}
    text = sync("\n".join(f"{key}: {value}" for key, value in lines.items()))
    (found,) = read(text).syncs
    assert (found.mode.label, found.pre_formatted_fields) == ("users_track / events", ("properties",))
    assert found.skip_on_invalid_records is True
    line = 9 + list(keys).index(word)
    assert notes(text) == [
        f'syncs.yml:{line}:5: "{label}" is read as "{word}", as retl spells it\n  hint: write {word}'
    ]


def test_label_is_noted_once_however_often_it_is_written():
    text = sync('mode: users_track\ntrack_record_type: "Custom Events"')
    text += '  - {name: b, model: orders, mode: users_track, track_record_type: "Custom Events"}\n'
    found = read(text)
    assert ([note.location.line for note in found.notes if note.location], found.warnings) == ([10], ())


def test_words_of_retl_are_not_noted():
    assert notes(HEAD + GOOD) == []


def test_label_from_a_variable_is_read():
    text = sync("mode: \"{{ var('mode') }}\"\ntrack_record_type: events")
    assert [one.mode_name for one in read(text, mode="User - Track").syncs] == ["users_track"]


def test_two_keys_that_mean_the_same_are_an_error_with_both_lines():
    text = sync("mode: users_track\ntrack_record_type: events\npre_formated_fields: a\npre_formatted_fields: b")
    assert problems(text) == [
        'syncs.yml:12:5: "pre_formatted_fields" means the same as "pre_formated_fields" on line 11\n'
        "  hint: remove one of them"
    ]


def test_error_in_the_value_of_a_label_has_its_place():
    text = sync("mode: users_track\ntrack_record_type: events\nPre-formatted fields: {a: b}")
    assert problems(text) == [
        'syncs.yml:11:27: "pre_formatted_fields" in sync "members" must be a string or a list of strings'
    ]


EVERY_LABEL = [
    *(
        (word, label, f"mode: {label}\ntrack_record_type: events")
        for word, one in MODES.items()
        for label in one.labels
    ),
    *(
        (word, label, f"mode: users_track\ntrack_record_type: {label}")
        for word, one in RECORD_TYPES.items()
        for label in one.labels
    ),
    *(("users_track", label, f"{label}: users_track\ntrack_record_type: events") for label in KEYS["mode"].labels),
    *(("events", label, f"mode: users_track\n{label}: events") for label in KEYS["track_record_type"].labels),
]


@pytest.mark.parametrize(("word", "label", "keys"), EVERY_LABEL, ids=lambda value: value.split("\n")[0])
def test_schema_lets_labels_pass(word: str, label: str, keys: str):
    keys = {
        "users_delete": f"mode: {label}\nallow_destructive: true",
        **dict.fromkeys(("users_alias_new", "users_identify"), keys.removesuffix("\ntrack_record_type: events")),
    }.get(word, keys)
    assert is_valid(sync(keys))
    assert not is_valid(sync(keys.replace(label, label[:-1])))


def test_schema_asks_for_what_is_missing_under_any_name():
    assert not is_valid(sync("Track record type: events"))
    assert not is_valid(sync("mode: users_track\nSkip on invalid records?: true"))


def test_schema_offers_the_words_of_retl_only():
    """A label is marked as deprecated, and no list of values has it."""
    keys = json_schema()["properties"]["syncs"]["items"]
    enums = [
        values["enum"] for key in ("mode", "track_record_type") for values in every(keys["properties"][key], "enum")
    ]
    assert enums == [mode_names(), record_types()]
    assert [one["deprecated"] for one in keys["patternProperties"].values()] == [True] * len(KEYS)


def every(node: object, key: str) -> Iterator[dict[str, Any]]:
    """The mappings in a schema that have a key."""
    if isinstance(node, dict):
        if key in node:
            yield node
        node = list(node.values())
    for inner in node if isinstance(node, list) else ():
        yield from every(inner, key)


def test_state_plan_and_manifest_have_the_words_of_retl(retl: Retl, shop: Shop):
    keys = {"mode": "User - Track", "track_record_type": "User Profile Attributes", "Pre-formatted fields": "home"}
    shop.sync("it", "SELECT 'u1' AS external_id, '[1]' AS home", **keys)
    planned = retl("plan", "--output", "json", folder=shop.folder)
    (plan,) = json.loads(planned.out)
    assert (plan["mode"], plan["attributes"]) == ("users_track / attributes", 1)
    noted = [line for line in planned.err.splitlines() if "as retl spells it" in line]
    assert noted == [
        'note: syncs.yml:15:3: "mode: User - Track" is read as "mode: users_track", as retl spells it',
        'note: syncs.yml:16:3: "track_record_type: User Profile Attributes" is read as '
        '"track_record_type: attributes", as retl spells it',
        'note: syncs.yml:17:3: "Pre-formatted fields" is read as "pre_formatted_fields", as retl spells it',
    ]
    (config,) = (
        one["config"] for one in json.loads((shop.folder / "target/manifest.json").read_text())["syncs"].values()
    )
    assert config == {
        **{"name": "it", "model": "it", "mode": "users_track", "track_record_type": "attributes"},
        "pre_formatted_fields": "home",
    }
    assert shop.run().status == "success"
    shop.sync("it", "SELECT 'u1' AS external_id, '[1]' AS home", pre_formatted_fields=["home"])
    assert shop.run().plan.to_send == 0


def test_note_is_information_in_json_and_in_python(retl: Retl, shop: Shop, caplog: pytest.LogCaptureFixture):
    shop.sync("it", "SELECT 'u1' AS external_id, 1 AS n", mode="User - Track", track_record_type="attributes")
    said = [json.loads(line) for line in retl("--log-format", "json", "ls", folder=shop.folder).err.splitlines()]
    noted = '"mode: User - Track" is read as "mode: users_track", as retl spells it'
    assert [(line["level"], line["message"], line["code"]) for line in said] == [("info", noted, "P117")]
    with caplog.at_level("INFO", "reverse_etl"):
        Project(shop.folder)
    assert [(one.levelname, one.message.partition("\n")[0]) for one in caplog.records] == [
        ("INFO", f"syncs.yml:15:3: {noted}")
    ]
