"""What Treasure Data's console and its page at Braze call the keys of a sync and their values. Pure.

One table for both: `syncs.yml` accepts the labels, with a note; an import of workflows reads other spellings, too,
since the names under `result_settings` are on no public page.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

MODE, RECORD_TYPE, PRE_FORMATTED, SKIP = (
    "mode",
    "track_record_type",
    "pre_formatted_fields",
    "skip_on_invalid_records",
)


@dataclass(frozen=True)
class Labels:
    """What one word of retl is called: `labels` are read anywhere (in English, in Korean), `imported` by an import."""

    labels: tuple[str, ...]
    imported: tuple[str, ...] = ()


KEYS: Mapping[str, Labels] = {
    MODE: Labels(("Mode", "모드"), ("export_mode",)),
    RECORD_TYPE: Labels(("Track record type", "추적 레코드 유형"), ("record_type",)),
    # An older version of Braze's page has one t.
    PRE_FORMATTED: Labels(
        ("Pre-formatted fields", "Pre-formated fields", "Preformatted fields", "미리 서식 지정된 필드")
    ),
    SKIP: Labels(("Skip on invalid records?",), ("skip_on_invalid_record",)),
}
MODES: Mapping[str, Labels] = {
    "users_alias_new": Labels(("User - New Alias", "사용자 - 새 별칭"), ("new_alias",)),
    "users_identify": Labels(("User - Identify", "User - Identifying", "사용자 - 식별"), ("identify",)),
    "users_track": Labels(("User - Track", "사용자 - 추적", "사용자 추적"), ("track",)),
    "users_delete": Labels(("User - Delete", "사용자 - 삭제"), ("delete",)),
}
RECORD_TYPES: Mapping[str, Labels] = {
    "events": Labels(("Custom Events", "사용자 지정 이벤트", "커스텀 이벤트"), ("custom_event", "event")),
    "purchases": Labels(("Purchases", "구매"), ("purchase",)),
    "attributes": Labels(("User Profile Attributes", "사용자 프로필 속성"), ("profile_attributes", "attribute")),
}
VALUES: Mapping[str, Mapping[str, Labels]] = {MODE: MODES, RECORD_TYPE: RECORD_TYPES}


def spelled(text: object) -> str:
    """A name as it is compared with others: without capitals, with _ for blanks and dashes."""
    return _spelled(str(text))


@lru_cache
def _spelled(text: str) -> str:
    return re.sub(r"[\s_-]+", "_", text.strip().rstrip("?").rstrip().casefold())


def pattern(word: str, one: Labels) -> str:
    """A regular expression, for JavaScript too, for the labels of a word in any spelling, without the word itself."""
    letters = "|".join(dict.fromkeys("".join(map(_letter, spelled(label))) for label in one.labels))
    return rf"^(?!{word}$)\s*({letters})\s*\?*\s*$"


def _letter(letter: str) -> str:
    if letter == "_":
        return r"[\s_-]+"
    return f"[{letter}{letter.upper()}]" if letter != letter.upper() else letter


def meant(text: object, words: Mapping[str, Labels], is_import: bool = False) -> str | None:
    """The word of retl that a label stands for; None if there is none."""
    for word, one in words.items():
        spellings = (word, *one.labels, *(one.imported if is_import else ()))
        if text == word or spelled(text) in map(spelled, spellings if is_import else one.labels):
            return word
    return None
