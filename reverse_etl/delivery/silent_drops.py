"""What a run sent to the sandbox that was accepted and not stored, or not stored as sent. Braze does the same, and says
nothing: it can be known of the sandbox only."""

from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass

from reverse_etl.braze.answers import Answer, json_object
from reverse_etl.braze.workspace import Workspace

_PROPERTY = "properties."


@dataclass(frozen=True)
class SilentDrop:
    """Values, or whole rows, that were dropped for one reason. `column` is None of whole rows."""

    column: str | None
    reason: str
    count: int


def silent_drops(workspace: Workspace, after: int, paths: Iterable[str], columns: Iterable[str]) -> list[SilentDrop]:
    """What the sandbox has dropped of its requests to `paths` after number `after`, the most frequent first.

    It is asked without an API key. Keys of JSON are data, so a property without a column of its name is `properties`.
    """
    from reverse_etl.braze.client import Connection, Deadlines

    asked = Workspace(workspace.url, "", workspace.timeout_s, workspace.network)
    with closing(Deadlines()) as deadlines, closing(Connection(asked, deadlines)) as connection:
        answer = connection.get(f"/_sandbox/drop-counts?after={after}&paths={','.join(paths)}")
    said = json_object(answer.body) if isinstance(answer, Answer) and answer.status == 200 else None
    known, counts = set(columns), Counter[tuple[str | None, str]]()
    for drop in (said or {}).get("drops", []):
        counts[_column(str(drop["field"]), known), str(drop["reason"])] += int(drop["count"])
    return [SilentDrop(column, reason, number) for (column, reason), number in counts.most_common()]


def _column(field: str, known: set[str]) -> str | None:
    name = field.removeprefix(_PROPERTY)
    if name in known:
        return name
    return "properties" if field.startswith(_PROPERTY) else None
