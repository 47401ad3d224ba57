"""Who is told what at night: real servers of webhooks and mail on loopback, and exactly what they got."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reverse_etl import Project
from reverse_etl.alerts import channels
from reverse_etl.alerts.decide import Condition, after_telling, changes, condition_after
from reverse_etl.errors import Problem
from reverse_etl.project.spec_alerts import Slack
from reverse_etl.runs.outcome import RunResult
from reverse_etl.sandbox import Fault
from tests.alerts.servers import Hook, Mails
from tests.proxy import server_context, write_authority
from tests.shop import EVENTS, KEY, Retl, Shop

DOCS = Path(__file__).parents[2] / "docs"
PATH = "/services/T0123456789ABCDEF/B0123456789ABCDEF/x9y8z7w6v5u4t3s2r1q0"
SLACK = {"type": "slack", "url": "{{ env_var('SLACK_URL') }}"}
ONE = "SELECT 'u1' AS external_id, 'ann@example.com' AS email, 1 AS n"
STATUS = {"mode": "subscription_status_set"}
BROKEN = "SELECT 'u1' AS external_id, 'ann@example.com' AS email, oops AS n"


@pytest.fixture(autouse=True)
def _no_other_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", *(f"{one}_PROXY" for one in ("HTTP", "HTTPS", "ALL", "NO"))):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    with Hook() as server:
        monkeypatch.setenv("SLACK_URL", f"{server.url}{PATH}")
        yield server


@pytest.fixture
def told(shop: Shop, hook: Hook) -> Shop:
    """A shop that tells a fake Slack."""
    shop.more = {"alerts": [SLACK]}
    return shop


def plain(text: str) -> str:
    """A text without durations and times."""
    text = re.sub(r" \(\d+\.\d s\)", "", text)
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "TIME", text)


def new_texts(hook: Hook) -> list[str]:
    """What was told since the last call."""
    texts = [plain(text) for text in hook.texts]
    hook.requests.clear()
    return texts


@pytest.mark.long
def test_message_in_the_docs_is_what_is_told(told: Shop, hook: Hook, retl: Retl):
    told.more = {"alerts": [{**SLACK, "after": 2}]}
    for sql in ("SELECT 'u' || i AS external_id, i AS n FROM range(1240) r(i)", BROKEN):
        told.sync("users", sql)
        retl("sync", "users", folder=told.folder)
    gone = "SELECT 'gone' || i AS external_id FROM range(60) r(i)"
    told.sync("erase", gone, mode="users_delete", allow_destructive=True)
    retl("sync", "erase", "users", folder=told.folder)
    (shown,) = re.findall(r"^```\n(retl, .*?)\n```", (DOCS / "alerts.md").read_text(), re.DOTALL | re.MULTILINE)
    assert new_texts(hook) == [
        plain(shown).replace("target prod", "target test").replace("--target prod", "--target test")
    ]


@pytest.mark.long
def test_a_night_of_20_states_and_exactly_what_slack_was_told(told: Shop, hook: Hook, retl: Retl):
    told.more = {"alerts": [{**SLACK, "after": 2}]}
    told.sync("users", ONE)
    told.sync("orders", "SELECT 'u1' AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time", **EVENTS)
    told.sync(
        "erase", "SELECT 'gone' || i AS external_id FROM range(60) r(i)", mode="users_delete", allow_destructive=True
    )
    news = "SELECT 'b' || i AS external_id, 'g1' AS subscription_group_id, 'unsubscribed' AS subscription_state FROM range(1) r(i)"
    told.sync("news", news, **STATUS)
    night: list[tuple[str, list[str]]] = []

    def run(what: str, *arguments: str) -> str:
        outcome = retl(*arguments, folder=told.folder)
        night.append((what, new_texts(hook)))
        return outcome.err

    run("1 success", "sync", "users")
    told.braze.add_fault(Fault("object_error", external_ids=["u1"], times=99))
    told.sync("users", ONE.replace("1 AS n", "2 AS n"))
    run("2 rejected", "sync", "users")
    run("3 rejected again", "sync", "users")
    run("4 and again", "sync", "users")
    told.sync("users", BROKEN)
    run("5 fails", "sync", "users")
    run("6 fails again", "sync", "users")
    told.sync("users", ONE)
    run("7 recovers", "sync", "users")
    told.sync("users", BROKEN)
    run("8 fails once", "sync", "users")
    told.sync("users", ONE)
    run("9 and recovers", "sync", "users")
    run("10 a guard for deletes", "sync", "erase")
    run("11 again", "sync", "erase")
    hook.answers = 503
    told.sync("news", "SELECT oops", **STATUS)
    warned = run("12 consent, while Slack is dead", "sync", "news")
    hook.answers = 200
    run("13 another sync succeeds", "sync", "users")
    told.sync("news", news, **STATUS)
    run("14 recovers", "sync", "news")
    told.braze.add_fault(Fault("drop_after"))
    run("15 in doubt", "sync", "orders")
    run("16 still in doubt", "sync", "orders")
    retl("resolve", "orders", "--mark-accepted", folder=told.folder)
    run("17 resolved", "sync", "orders")
    run("18 deletes that are meant", "sync", "erase", "--skip-guard", "max_deletes=60")
    run("19 nothing to do", "sync", "--all")
    told.sync("users", BROKEN).sync("news", "SELECT oops", **STATUS)
    run("20 several at once", "sync", "--all")
    status, in_a_row = "more: `retl status --target test`", "  2 runs in a row without success, since TIME\n"
    assert {what: texts for what, texts in night if texts} == {
        "3 rejected again": [
            "retl, target test: users incomplete\n"
            "users: incomplete, nothing to send, 0 requests; 1 rejected earlier, not resent\n"
            f"{in_a_row}{status}"
        ],
        "5 fails": [
            "retl, target test: users failed\nusers: failed\n  SQL error [P051]\n"
            f"  4 runs in a row without success, since TIME\n{status}, `retl explain P051`"
        ],
        "7 recovers": ["retl, target test: users recovered\nusers: succeeded; until then failed, since TIME"],
        "10 a guard for deletes": [
            "retl, target test: erase blocked\nerase: blocked, 0 requests\n"
            "  guard max_deletes: 60 users would be deleted; at most 50 are allowed "
            f"(50, or 0.1% of 1 user in the target's states) [X002]\n{status}, `retl explain X002`"
        ],
        "12 consent, while Slack is dead": [
            news_failed := (
                f"retl, target test: news failed\nnews: failed\n  SQL error [P051]\n{status}, `retl explain P051`"
            )
        ],
        "13 another sync succeeds": [news_failed],
        "14 recovers": ["retl, target test: news recovered\nnews: succeeded; until then failed, since TIME"],
        "16 still in doubt": [
            "retl, target test: orders in doubt\n"
            "orders: incomplete, nothing to send, 0 requests; 1 held, in doubt since an earlier run\n"
            f"{in_a_row}{status}"
        ],
        "17 resolved": ["retl, target test: orders recovered\norders: succeeded; until then in doubt, since TIME"],
        "18 deletes that are meant": [
            "retl, target test: erase recovered\nerase: succeeded; until then blocked, since TIME"
        ],
        "20 several at once": [
            f"retl, target test: news failed\nnews: failed\n  SQL error [P051]\n{status}, `retl explain P051`"
        ],
    }
    assert len(night) == 20
    assert re.sub(r"yml:\d+:3", "yml:LINE:3", warned).endswith(
        f'warning: syncs.yml:LINE:3: alert "slack" was not delivered: {hook.url} returned 503\n'
        '  hint: check "url" of alert "slack"\n'
    )
    (memory,) = told.folder.glob(".retl/test/alerts.json")
    assert memory.stat().st_mode & 0o077 == 0
    assert re.search("ann@|u1", memory.read_text()) is None


@pytest.mark.long
def test_withheld_resubscription_is_told_at_once_with_several_others_in_one_message(told: Shop, hook: Hook, retl: Retl):
    told.more = {"alerts": [{**SLACK, "after": 3}]}
    told.sync("people", "SELECT 'u1' AS external_id, 'unsubscribed' AS email_subscribe")
    told.sync("gone", "SELECT 'u2' AS external_id", mode="users_delete", allow_destructive=True)
    assert retl("sync", "--all", folder=told.folder).code == 0
    told.sync("people", "SELECT 'u1' AS external_id, 'opted_in' AS email_subscribe")
    told.sync("gone", "SELECT oops", mode="users_delete", allow_destructive=True)
    assert retl("sync", "--all", folder=told.folder).code == 1
    (text,) = new_texts(hook)
    assert text.splitlines()[0] == "retl, target test: gone failed, people withheld"
    assert [line for line in text.splitlines() if line.startswith("people")] == [
        "people: incomplete, nothing to send, 0 requests; 1 withheld"
    ]


def test_missing_api_key_is_told_of_every_sync(told: Shop, hook: Hook, retl: Retl, monkeypatch: pytest.MonkeyPatch):
    told.sync("users", ONE).sync("others", "SELECT 'u2' AS external_id, 1 AS k")
    monkeypatch.delenv("BRAZE_API_KEY")
    assert retl("sync", "--all", folder=told.folder).code == 2
    (text,) = new_texts(hook)
    assert text.splitlines()[0] == "retl, target test: others failed, users failed"


@pytest.mark.parametrize("status", [401, 403])
def test_status_that_braze_returned_is_told_and_nothing_else_of_its_answer(
    told: Shop, hook: Hook, retl: Retl, status: int
):
    """It tells a wrong key from a permission that is missing, at night."""
    told.sync("users", ONE)
    told.braze.add_fault(Fault("status", status=status, body='{"message": "no ann@example.com"}', times=None))
    assert retl("sync", "users", folder=told.folder).code == 1
    (text,) = hook.texts
    assert (f"sending stopped: Braze returned {status} [X004]" in text, "ann@" in text) == (True, False)


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("http://127.0.0.1:1", "cannot reach http://127.0.0.1:1: Connection refused"),
        ("https://nowhere.invalid", "cannot reach https://nowhere.invalid: Name or service not known"),
    ],
)
def test_why_braze_was_not_reached_is_told_as_the_command_says_it(
    told: Shop, hook: Hook, retl: Retl, endpoint: str, why: str
):
    told.sync("users", ONE).destination["endpoint"] = endpoint
    told.write()
    done = retl("sync", "users", folder=told.folder)
    (text,) = hook.texts
    assert (done.code, why in done.err, f"sending stopped: {why} [X004]" in text) == (1, True, True), text


@pytest.mark.parametrize(
    ("why", "told_of_it"),
    [
        ("no complete response within 60 s; gave up after 6 attempts in 321 s", "no complete response within 60 s"),
        ("no complete response: ann@example.com", "no complete response"),
        (
            "the certificate of https://rest.iad-01.braze.com has expired",
            "the certificate of https://rest.iad-01.braze.com has expired",
        ),
        ("https://rest.iad-01.braze.com does not use TLS", "https://rest.iad-01.braze.com does not use TLS"),
        (
            "cannot reach https://rest.iad-01.braze.com: timed out; gave up after 6 attempts in 70 s",
            "cannot reach https://rest.iad-01.braze.com: timed out",
        ),
    ],
)
def test_failure_without_a_status_is_told_without_what_a_server_said(why: str, told_of_it: str):
    problem = Problem(f"users: {why}", code="X004")
    failed = RunResult("users", "attributes", "test", "failed", 1, [problem])
    now = condition_after(None, failed, False, datetime.now(UTC))
    assert now is not None
    assert now.lines[1] == f"sending stopped: {told_of_it} [X004]"


def test_python_api_tells_too(told: Shop, hook: Hook):
    told.sync("users", BROKEN)
    environ = {"BRAZE_API_KEY": KEY, "SLACK_URL": f"{hook.url}{PATH}"}
    assert Project(told.folder, environ=environ).sync("users").status == "failed"
    assert new_texts(hook)[0].startswith("retl, target test: users failed\n")


# --- what a message contains -----------------------------------------------------------------------------------------


@pytest.mark.long
def test_no_value_and_no_key_is_in_what_is_told(told: Shop, hook: Hook, retl: Retl):
    """Not in an error of the warehouse, of duplicate keys, of a data test or of Braze."""
    told.more = {"alerts": [SLACK, {**SLACK, "type": "webhook"}]}
    who = "SELECT 'secret-u1' AS external_id, 'ann@example.com' AS email"
    told.sync("cast_of", f"SELECT external_id, email::INTEGER AS a FROM ({who})")
    told.sync("twice", f"{who} UNION ALL {who}")
    told.sync("tested", who.replace("email", "b"), data_tests=[{"accepted_values": {"column": "b", "values": ["x"]}}])
    told.sync("rejects", who.replace("email", "c"))
    told.braze.add_fault(Fault("status", status=401, body='{"message": "ann@example.com secret-u1"}', times=9))
    assert retl("sync", "--all", folder=told.folder).code == 1
    slack, webhook = sorted(hook.requests, key=lambda request: len(request.json))
    assert {one["sync"]: one["event"] for one in webhook.json["changes"]} == {
        "cast_of": "failed", "twice": "failed", "tested": "blocked", "rejects": "failed"
    }  # fmt: skip
    for request in (slack, webhook):
        assert not any(word in request.body.decode() for word in ("ann", "example.com", "secret", "u1"))


def test_webhook_gets_json_and_headers_and_slack_gets_escaped_text(told: Shop, hook: Hook, retl: Retl, monkeypatch):
    monkeypatch.setenv("TOKEN", "t0k3n-0123456789abcdef")
    told.more = {
        "alerts": [
            {
                **SLACK,
                "type": "webhook",
                "headers": {"Authorization": "Bearer {{ env_var('TOKEN') }}"},
                "when": ["blocked"],
            }
        ]
    }
    told.sync("users", ONE, guards={"max_requests": 0})
    assert retl("sync", "users", folder=told.folder).code == 1
    (request,) = hook.requests
    assert (request.method, request.path) == ("POST", PATH)
    assert request.headers["authorization"] == "Bearer t0k3n-0123456789abcdef"
    assert (request.headers["content-type"], request.headers["user-agent"][:5]) == ("application/json", "retl/")
    (change,) = request.json["changes"]
    assert {name: change[name] for name in ("sync", "event", "before", "cause", "runs", "codes")} == {
        **{"sync": "users", "event": "blocked", "before": None},
        **{"cause": "max_requests", "runs": 1, "codes": ["X002"]},
    }
    assert (request.json["target"], request.json["text"].splitlines()[0]) == (
        "test",
        "retl, target test: users blocked",
    )
    assert datetime.fromisoformat(request.json["at"]).tzinfo is not None


# --- what does not arrive --------------------------------------------------------------------------------------------


def test_server_that_hangs_holds_up_no_run_and_changes_no_exit_code(
    told: Shop, hook: Hook, retl: Retl, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(channels, "GIVE_UP_S", 0.2)
    monkeypatch.setattr(channels, "TIMEOUT_S", 30.0)
    hook.hangs = True
    told.sync("users", BROKEN)
    outcome = retl("sync", "users", folder=told.folder)
    assert (outcome.code, outcome.out) == (2, "users: failed\n")
    assert 'alert "slack" was not delivered: no response within 0.2 s' in outcome.err
    hook.hangs = False
    assert retl("alert", "test", folder=told.folder).code == 0


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (None, 'environment variable "SLACK_URL" is not set'),
        ("http://hooks.example.com/services/x9y8z7w6v5u4t3s2r1q0", "its URL must start with https://"),
        ("http://127.0.0.1:1/services/x9y8z7w6v5u4t3s2r1q0", "cannot reach http://127.0.0.1:1: Connection refused"),
    ],
)
def test_alert_that_cannot_be_sent_is_a_warning_without_its_url(
    told: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch, url: str | None, why: str
):
    monkeypatch.delenv("SLACK_URL")
    if url:
        monkeypatch.setenv("SLACK_URL", url)
    told.sync("users", ONE.replace("1 AS n", "error('x') AS n"))
    outcome = retl("sync", "users", folder=told.folder)
    assert f'warning: syncs.yml:18:3: alert "slack" was not delivered: {why}' in outcome.err
    assert "x9y8z7w6" not in outcome.err
    assert retl("status", folder=told.folder).code == 0


# --- heartbeat -------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_heartbeat_follows_every_run_due_and_is_silent_if_an_alert_was_not_delivered(
    told: Shop, hook: Hook, retl: Retl, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BEAT", f"{hook.url}/ping/0123456789abcdef0123")
    told.more = {**told.more, "heartbeat": {"url": "{{ env_var('BEAT') }}", "targets": "test"}}
    told.sync("users", ONE, schedule="0 0 1 1 *")

    def beats(*arguments: str) -> list[str]:
        hook.requests.clear()
        retl("run-due", *arguments, folder=told.folder)
        return [request.path for request in hook.requests if request.method == "GET"]

    ping = ["/ping/0123456789abcdef0123"]
    assert beats("--dry-run") == []
    assert (beats(), beats()) == (ping, ping)  # something was due; nothing is
    told.sync("users", BROKEN, schedule="0 0 1 1 *")
    retl("sync", "users", "--scheduled-time", "2001-01-01T00:00:00Z", folder=told.folder)
    assert beats() == ping  # what failed was told
    hook.answers = 500
    told.sync("users", ONE, schedule="0 0 1 1 *", guards={"max_requests": 0}).sync(
        "users2", "SELECT oops AS external_id"
    )
    retl("sync", "users2", folder=told.folder)
    assert beats() == []
    hook.answers = 200
    assert beats() == ping
    told.sync("later", "SELECT 'u3' AS external_id, 3 AS k", schedule="0 0 1 1 *")
    monkeypatch.delenv("BRAZE_API_KEY")
    assert beats() == []  # the command ended with an error


# --- mail ------------------------------------------------------------------------------------------------------------

MAIL = {"type": "email", "host": "localhost", "from": "retl@example.com", "to": ["crm@example.com", "ops@example.com"]}
LOGIN = {"username": "joe", "password": "{{ env_var('SMTP_PASSWORD') }}"}


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_mail_goes_by_tls_with_a_login(
    shop: Shop, retl: Retl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: str
):
    monkeypatch.setenv("SMTP_PASSWORD", "p4ssw0rd-0123456789")
    monkeypatch.setenv("SSL_CERT_FILE", write_authority(tmp_path / "authority.pem"))
    shop.sync("users", BROKEN)
    with Mails(server_context("localhost"), "joe:p4ssw0rd-0123456789", implicit=tls == "implicit") as server:
        shop.more = {"alerts": [{**MAIL, **LOGIN, "port": server.port, "tls": tls}]}
        shop.write()
        assert retl("sync", "users", folder=shop.folder).code == 2
    (mail,) = server.mails
    assert [mail[name] for name in ("From", "To", "Subject", "Auto-Submitted")] == [
        *("retl@example.com", "crm@example.com, ops@example.com", "retl, target test: users failed", "auto-generated")
    ]
    assert plain(mail.get_content().replace("\r\n", "\n")) == (
        "retl, target test: users failed\n\nusers: failed\n  SQL error [P051]\n"
        "more: `retl status --target test`, `retl explain P051`\n"
    )
    assert server.said == [
        "EHLO",
        *(["STARTTLS", "EHLO"] if tls == "starttls" else []),
        *["AUTH", "MAIL", "RCPT", "RCPT", "DATA", "QUIT"],
    ]


def test_what_a_mail_server_refuses_is_told_without_addresses(
    shop: Shop, retl: Retl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SMTP_PASSWORD", "wr0ng-0123456789abc")
    monkeypatch.setenv("SSL_CERT_FILE", write_authority(tmp_path / "authority.pem"))
    shop.sync("users", ONE)

    def said(server: Mails, **keys: object) -> str:
        shop.more = {"alerts": [{**MAIL, "port": server.port, **keys}]}
        shop.write()
        outcome = retl("alert", "test", folder=shop.folder)
        assert (outcome.code, outcome.out) == (1, "")
        return outcome.err.replace(str(server.port), "PORT")

    where = 'syncs.yml:18:3: alert "email" was not delivered: '
    with Mails(server_context("localhost"), "joe:right") as server:
        assert said(server, **LOGIN) == f'{where}localhost:PORT refused the login: 535\n  hint: check alert "email"\n'
    with Mails() as server:
        offers = f"{where}localhost:PORT does not offer STARTTLS, or no login\n"
        assert said(server) == f'{offers}  hint: check "port" and "tls" of alert "email"\n'
        server.refuses = "example.com"
        all_refused = f"{where}localhost:PORT refused all recipients: 550\n"
        assert said(server, tls="none") == f'{all_refused}  hint: check "to" of alert "email"\n'
        server.refuses = "ops@"
        assert "refused some recipients" in said(server, tls="none")
        assert len(server.mails) == 1  # to the other
    with Mails(server_context("elsewhere.example.com")) as server:
        assert "the certificate of localhost:PORT is that of another host" in said(server)
        assert server.mails == []


# --- retl alert test, and the keys -----------------------------------------------------------------------------------


def test_alert_test_sends_by_every_alert_of_the_target_or_by_those_named(told: Shop, hook: Hook, retl: Retl):
    told.more = {"alerts": [SLACK, {**SLACK, "name": "crm"}, {**SLACK, "name": "elsewhere", "targets": []}]}
    told.sync("users", ONE)
    outcome = retl("alert", "test", folder=told.folder)
    assert (outcome.code, outcome.err) == (0, "slack: delivered\ncrm: delivered\nelsewhere: delivered\n")
    test = "retl, target test: this is a test\nNothing is wrong. Alerts of this target arrive here."
    assert new_texts(hook) == [test] * 3
    assert retl("alert", "test", "crm", folder=told.folder).err == "crm: delivered\n"
    unknown = retl("alert", "test", "cmr", folder=told.folder)
    assert (unknown.code, unknown.err) == (2, 'target "test" has no alert "cmr"\n  hint: did you mean "crm"?\n')
    assert not (told.folder / ".retl/test/alerts.json").exists()
    told.more = {}
    told.write()
    assert 'target "test" has no alerts\n' in retl("alert", "test", folder=told.folder).err


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"alerts": [{"type": "slack", "url": "https://hooks.slack.com/x"}]}, '19:8: "url" in alert "slack" must come from the environment'),
        ({"alerts": [{"type": "slak", "url": "x"}]}, '"slak" is not a valid value for "type" in alert "slak"\n  hint: did you mean "slack"?'),
        ({"alerts": [{"url": "x"}]}, '"type" is missing in alert 1\n  hint: one of: slack, webhook, email'),
        ({"alerts": [SLACK, {**SLACK}]}, 'duplicate alert "slack", first defined on line 18'),
        ({"alerts": [{**SLACK, "targets": ["tets"]}]}, 'unknown target "tets" in alert "slack"\n  hint: did you mean "test"?'),
        ({"alerts": [{**SLACK, "when": ["broken"]}]}, '"broken" is not a valid value for '),
        ({"alerts": [{**SLACK, "afer": 2}]}, 'unknown key "afer" in alert "slack"\n  hint: did you mean "after"?'),
        ({"alerts": [{**MAIL, "username": "joe"}]}, "must have both username and password, or neither"),
        ({"alerts": [{**MAIL, **LOGIN, "host": "h.example.com", "tls": "none"}]}, "must not send a password without encryption"),
        ({"heartbeat": {"url": "{{ env_var('HC_' ~ 'URL') }}"}}, '"url" in "heartbeat" must not compute the name of an environment variable'),
        ({"heartbeat": {"url": "https://hc-ping.com/x"}}, '"url" in "heartbeat" must come from the environment'),
    ],
)  # fmt: skip
def test_keys_that_are_wrong_are_said_with_their_place(shop: Shop, retl: Retl, more: dict, what: str):
    shop.sync("users", ONE)
    shop.more = more
    shop.write()
    outcome = retl("ls", folder=shop.folder)
    assert outcome.code == 2
    assert what in outcome.err


def test_secret_of_an_alert_is_read_by_no_model_and_by_no_other_key(told: Shop, retl: Retl):
    told.sync("users", "SELECT '{{ env_var(\"SLACK_URL\") }}' AS external_id")
    outcome = retl("compile", "users", folder=told.folder)
    assert (outcome.code, 'environment variable "SLACK_URL" is a secret' in outcome.err) == (2, True)


# --- decisions -------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 25, 3, tzinfo=UTC)


def wrong(kind: str, cause: str = "", runs: int = 1, at_once: bool = False) -> Condition:
    return Condition(kind, cause, NOW, runs, at_once, ("it: line",), ())


@pytest.mark.parametrize(
    ("was", "now", "event"),
    [
        (None, None, None),
        (None, wrong("failed"), None),
        (None, wrong("failed", runs=2), "failed"),
        (None, wrong("failed", at_once=True), "failed"),
        (wrong("failed"), wrong("failed", runs=9), None),
        (wrong("failed"), wrong("blocked", "max_deletes"), "blocked"),
        (wrong("blocked", "max_changes"), wrong("blocked", "max_deletes"), "blocked"),
        (wrong("failed"), None, "recovered"),
        (wrong("failed"), wrong("incomplete", runs=3), None),  # not in `when`
    ],
)
def test_what_is_told_of_what_was_and_is(was: Condition | None, now: Condition | None, event: str | None):
    alert = Slack(type="slack", url="x", after=2, when=("failed", "blocked", "recovered"))
    told, is_so = ({"it": one} if one else {} for one in (was, now))
    found = changes(told, is_so, alert)
    assert [change.event for change in found] == ([event] if event else [])
    assert changes(after_telling(told, is_so, alert), is_so, alert) == []  # once


def test_damaged_memory_is_begun_again(told: Shop, hook: Hook, retl: Retl):
    told.sync("users", BROKEN)
    path = told.folder / ".retl/test/alerts.json"
    path.parent.mkdir(parents=True)
    for text in ("", "[1]", '{"now": {"users": 1}, "told": {"slack": {"users": {"kind": "failed"}}}}'):
        path.write_text(text)
        retl("sync", "users", folder=told.folder)
        assert len(new_texts(hook)) == 1
    assert json.loads(path.read_text())["told"]["slack"]["users"]["kind"] == "failed"


@pytest.mark.parametrize("name", ["alerts.json", "alerts.lock"])
def test_what_cannot_be_written_down_is_told_and_told_again(told: Shop, hook: Hook, retl: Retl, name: str):
    told.sync("users", BROKEN)
    (told.folder / ".retl/test" / name).mkdir(parents=True)  # where no file can be written, as on a full disk
    for _ in range(2):
        done = retl("sync", "users", folder=told.folder)
        assert [text.splitlines()[0] for text in new_texts(hook)] == ["retl, target test: users failed"]
        assert "alerts cannot be recorded, and are sent again by the next command: cannot write " in done.err
        assert done.code == 2  # that of the run
