"""The project of docs/consent.md, as the page shows it: an opt-out in Braze is collected, and not undone by any sync."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.canary import KEY
from tests.collect.collectors import Running, collecting, records
from tests.shop import Outcome, Retl

PAGE = (Path(__file__).parents[2] / "docs" / "consent.md").read_text(encoding="utf-8")
GROUP = "11111111-1111-1111-1111-111111111111"
BEFORE, AFTER = 1_795_986_900, 4_000_000_000  # 2026-11-29, and a time that is later than that of any run
OPTED_OUT = [
    ("emails", {"external_id": "ann", "email_subscribe": "unsubscribed"}),
    ("emails", {"external_id": "cat", "email_subscribe": "unsubscribed"}),
    ("newsletter", {"external_ids": ["ben"], "subscription_group_id": GROUP, "subscription_state": "unsubscribed"}),
]

pytestmark = pytest.mark.long


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def files() -> dict[str, str]:
    """The files of the page, by the names in their first lines."""
    found = {}
    for language in ("yaml", "sql", "csv"):
        for text in blocks(language):
            first, _, rest = text.partition("\n")
            name = re.fullmatch(r"(?:#|--) (\S+\.\w+)", first)
            if name:
                found[name[1]] = rest
    return found


WEBHOOK, CURRENTS = blocks("json")


@pytest.fixture
def folder(tmp_path: Path, retl: Retl, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project, whose users are all subscribed."""
    monkeypatch.delenv("POSTBACK_KEY", raising=False)  # which no sync needs
    for name, text in files().items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert retl("seed").code == 0
    assert retl("sync", "--all").code == 0
    assert len(sent(retl)) == 6
    return tmp_path


@pytest.fixture
def collector(folder: Path) -> Iterator[Running]:
    with collecting(folder, EVERY_S=0.01) as running:
        yield running


def sent(retl: Retl, since: int = 0) -> list[tuple[str, Any]]:
    """What the sandbox was sent, one by one, by the sync that sent it."""
    bodies = [json.loads(line) for line in retl("sandbox", "--last", "99").out.splitlines() if line[0] == "{"]
    found: list[tuple[str, Any]] = []
    for body in bodies:
        found += [("emails", one) for one in body.get("attributes", [])]
        found += [
            ("newsletter", {**one, "external_ids": [user]})
            for one in body.get("subscription_groups", [])
            for user in one["external_ids"]
        ]
    return sorted(found[since:], key=repr)


def webhook(running: Running, user: str, changed_at: int = BEFORE, state: str = "unsubscribed") -> None:
    """What Braze makes of the body on the page."""
    filled = {"${user_id}": user, "${email_address}": f"{user}@example.com", "'now' | date: '%s'": str(changed_at)}
    body = WEBHOOK.replace('"unsubscribed"', f'"{state}"')
    for liquid, value in filled.items():
        body = body.replace("{{" + liquid + "}}", value)
    answer = running.session.post(
        f"{running.url}/postback/v3/event/braze/opt_outs", data=body, headers={"X-TD-Write-Key": KEY}
    )
    assert (answer.status_code, answer.text) == (200, "{}")


def currents(running: Running, body: str = CURRENTS) -> None:
    answer = running.session.post(
        f"{running.url}/postback/v3/event/braze/currents?unwrap=events",
        data=body,
        headers={"Authorization": f"Bearer {KEY}", "Braze-Currents-Version": "1"},
    )
    assert (answer.status_code, answer.text) == (200, "{}")


def wait_for(running: Running, webhooks: int, events: int) -> None:
    """Until they are in Parquet files."""
    expected = [webhooks, events]
    running.process.wait_until(
        lambda: [len(records(running.folder, table, "braze")) for table in ("opt_outs", "currents")] == expected
    )


def opted_out(running: Running, retl: Retl) -> Outcome:
    """What happens on the page: Braze tells of three opt-outs, twice, as it may, and the next sync sends them."""
    for _ in range(2):
        webhook(running, "ann")
        currents(running)
    wait_for(running, 2, 6)
    return retl("sync", "--all")


def test_page_has_a_whole_project():
    assert sorted(files()) == [
        "models/changed_in_braze.sql",
        "models/emails.sql",
        "models/latest.sql",
        "models/newsletter.sql",
        "seeds/own_consents.csv",
        "seeds/people.csv",
        "syncs.yml",
    ]


def test_opt_outs_that_braze_tells_of_are_sent_once_and_never_undone(collector: Running, retl: Retl):
    synced = opted_out(collector, retl)
    assert (synced.code, sent(retl, since=6)) == (0, OPTED_OUT)
    for _ in range(2):
        assert (retl("sync", "--all").code, len(sent(retl))) == (0, 9)
    assert retl("sync", "--all", "--full-refresh", "--yes").code in (0, 1)
    assert [one for one in sent(retl, since=9) if one not in OPTED_OUT] == []


def test_empty_batch_is_a_test_of_the_key_and_changes_nothing(collector: Running, retl: Retl):
    currents(collector, "")
    currents(collector, '{"events": []}')
    assert (retl("sync", "--all").code, len(sent(retl))) == (0, 6)


def test_tie_is_won_by_the_opt_out(collector: Running, retl: Retl):
    webhook(collector, "ann")
    webhook(collector, "ann", state="subscribed")
    wait_for(collector, 2, 0)
    assert (retl("sync", "--all").code, sent(retl, since=6)) == (0, OPTED_OUT[:1])


def test_older_opt_out_than_the_own_consent_changes_nothing(collector: Running, retl: Retl):
    webhook(collector, "ann", changed_at=1_000_000_000)
    wait_for(collector, 1, 0)
    assert (retl("sync", "--all").code, len(sent(retl))) == (0, 6)


def test_opt_in_after_it_with_a_newer_agreement_is_sent(collector: Running, retl: Retl):
    opted_out(collector, retl)
    webhook(collector, "ann", AFTER, "opted_in")
    wait_for(collector, 3, 6)
    assert retl("sync", "--all").code == 0
    assert sent(retl, since=9) == [("emails", {"external_id": "ann", "email_subscribe": "opted_in"})]


def test_when_keep_ends_opt_ins_are_withheld_and_the_run_says_so(collector: Running, retl: Retl):
    opted_out(collector, retl)
    collector.process.kill()
    collector.process.wait()
    shutil.rmtree(collector.folder / "collected/braze")
    for _ in range(2):
        synced = retl("sync", "--all")
        assert (synced.code, len(sent(retl))) == (1, 9)
        assert synced.out.count("withheld") >= 2


def test_person_who_is_erased_is_neither_opted_in_nor_kept(collector: Running, retl: Retl):
    opted_out(collector, retl)
    said = retl("forget", "ann", "--yes")
    assert said.code == 0
    collector.process.wait_until(
        lambda: [one["external_id"] for one in records(collector.folder, "opt_outs", "braze")] == []
    )
    logged = sent(retl)
    assert "ann" not in str(logged)
    assert (
        "(its body is not kept any more: too old, or somebody in it was erased)\n"
        in retl("sandbox", "--last", "99").out
    )
    assert (retl("sync", "--all").code, sent(retl)) == (0, logged)
