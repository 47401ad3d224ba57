"""What Treasure Data's export and its schedules are called, as keys of a sync. Pure.

The keys of `result_settings` for Braze are on no public page, so all spellings of `project/labels.py` are read;
anything else is an error. Schedules: digdag, scheduling_workflow.rst.
"""

import re
from collections.abc import Mapping
from typing import Any

from reverse_etl.braze.modes import MODES
from reverse_etl.project.labels import KEYS, MODE, PRE_FORMATTED, RECORD_TYPE, RECORD_TYPES, SKIP, meant, spelled
from reverse_etl.project.labels import MODES as MODE_LABELS

TYPE, BRAZE = "type", "braze"
SECRETS = ("rest_api_key", "api_key", "apikey", "endpoint", "rest_endpoint", "rest_api_endpoint")
_TIME = re.compile(r"(?:(\d+):)?(\d+):(\d+)")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class SettingProblem(ValueError):  # noqa: N818 - of the file, as errors.Problem
    """A value that is none that is known."""


def setting(name: object) -> str | None:
    """The key of a setting as `sync_keys` knows it; None if it is not known."""
    return TYPE if spelled(name) == TYPE else meant(name, KEYS, is_import=True)


def is_of_braze(settings: Mapping[str, Any]) -> bool:
    """Whether settings say that they are of Braze: by their type, or else by what no export to elsewhere has.

    Other exports have a `mode`, too: append, replace.
    """
    known = {known: value for name, value in settings.items() if (known := setting(name))}
    if TYPE in known:
        return spelled(known[TYPE]) == BRAZE
    mode = known.get(MODE)
    is_mode = meant(mode, MODE_LABELS, is_import=True) is not None or "subscription" in spelled(mode)
    return is_mode or bool(known.keys() - {MODE})


def sync_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a sync, from settings by the names in KEYS' values. Raises SettingProblem."""
    mode = _mode(settings.get(MODE))
    found: dict[str, Any] = {"mode": mode}
    if mode == "users_track":
        record_type = meant(settings.get(RECORD_TYPE), RECORD_TYPES, is_import=True)
        if record_type is None:
            raise SettingProblem(f"{RECORD_TYPE} is none of Custom Events, Purchases, User Profile Attributes")
        found[RECORD_TYPE] = record_type
    fields = settings.get(PRE_FORMATTED)
    names = [str(one).strip() for one in (fields.split(",") if isinstance(fields, str) else fields or [])]
    if any(names) and PRE_FORMATTED in MODES[mode, found.get(RECORD_TYPE)].options:
        found[PRE_FORMATTED] = [name for name in names if name]
    skip = settings.get(SKIP)
    if skip is not None:
        if spelled(skip) not in ("true", "false"):
            raise SettingProblem(f"{SKIP} is neither true nor false")
        found[SKIP] = spelled(skip) == "true"
    if mode == "users_delete":
        found["allow_destructive"] = True
    return found


def _mode(value: object) -> str:
    if value is None:
        raise SettingProblem("mode is missing, so it is not known what is exported")
    if "subscription" in spelled(value):
        return "subscription_status_set"
    mode = meant(value, MODE_LABELS, is_import=True)
    if mode is None:
        raise SettingProblem(
            "mode is none of User - New Alias, User - Identify, User - Track, User - Delete, or of a subscription"
        )
    return mode


def schedule_keys(schedule: Mapping[str, Any]) -> dict[str, str]:
    """The keys `schedule` and `delay`, from those of digdag. Raises SettingProblem for what has no counterpart.

    digdag's daily, hourly, weekly and monthly schedules begin some time after the time that they are for.
    """
    operator = next((key for key in schedule if key.endswith(">")), None)
    command = str(schedule.get(operator or "", "")).strip()
    if operator == "minutes_interval>" and command.isdigit() and 0 < int(command) < 60:
        return _with_delay(f"*/{command} * * * *", schedule.get("delay"))
    if operator == "cron>" and len(command.split()) == 5:
        _, _, day, _, weekday = command.split()
        if day != "*" and weekday != "*":
            raise SettingProblem(
                "day of month and day of week are both set, which Treasure Data and cron read differently"
            )
        return _with_delay(command, schedule.get("delay"))
    parts = [part.strip() for part in command.split(",")]
    lines = {"hourly>": "0 * * * *", "daily>": "0 0 * * *"}
    if operator in lines and len(parts) == 1:
        return _with_delay(lines[operator], _seconds(parts[0]))
    if operator == "weekly>" and len(parts) == 2:
        day = parts[0].casefold()[:3]
        if day in _DAYS or (day.isdigit() and int(day) < len(_DAYS)):
            return _with_delay(f"0 0 * * {day}", _seconds(parts[1]))
    if operator == "monthly>" and len(parts) == 2 and parts[0].isdigit() and 1 <= int(parts[0]) <= 31:
        return _with_delay(f"0 0 {parts[0]} * *", _seconds(parts[1]))
    raise SettingProblem("it is not one that is known")


def slot_of(schedule: object) -> tuple[str, int] | None:
    """How long it is from one time of a schedule of digdag to the next: a unit and a number; None if that differs."""
    if not isinstance(schedule, Mapping):
        return None
    operator = next((key for key in schedule if str(key).endswith(">")), "")
    minutes = str(schedule.get(operator, "")).strip()
    if operator == "minutes_interval>" and minutes.isdigit() and int(minutes) and 60 % int(minutes) == 0:
        return ("minutes", int(minutes))
    return {"hourly>": ("hours", 1), "daily>": ("days", 1), "weekly>": ("days", 7)}.get(operator)


def _seconds(text: str) -> int:
    """Of HH:MM:SS, or MM:SS; digdag does not bound the hours."""
    found = _TIME.fullmatch(text)
    if not found:
        raise SettingProblem(f"{text} is not a time")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def _with_delay(line: str, delay: object) -> dict[str, str]:
    text = str(delay or 0)
    if not (text.isascii() and text.isdigit() and len(text) < 8):
        raise SettingProblem("delay is not a number of seconds")
    seconds = int(text)
    size, unit = next(
        (size, unit) for size, unit in ((3600, "hour"), (60, "minute"), (1, "second")) if seconds % size == 0
    )
    number = seconds // size
    return {"schedule": line, **({"delay": f"{number} {unit}{'' if number == 1 else 's'}"} if seconds else {})}
