"""What the world may do to a sync, made up at random, and what must hold whatever it does.

    make attack        (60 rounds of each kind; ATTACK="--rounds 200 --seed 3 --only damage")

    answers    responses that no one documents, to requests that were taken or not; they echo the API key
    damage     files of the state that are cut, changed, lost or replaced by others, after a run or one that was killed
    bytes      the same after a run, and many times over: in one process, and from the same state each time; 20 a round
    links      symbolic links where the state, locks and artifacts are written
    plans      saved plans with changed bytes
    texts      syncs.yml, a model, .env, a seed and --vars that are cut, spliced and have odd bytes; 20 of them a round
    values     rows with right and wrong values in all fields: what the sandbox refuses or drops, retl had announced

After each round, with the world in order again: no event has arrived twice; every event has arrived, or is told of, or
the state is refused. No command ever ends with a traceback, prints or writes a secret, or writes through a link.
A number stands for a round: `--seed` and it repeat it.
"""

import argparse
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

import requests

from reverse_etl.cli import main as retl_main
from reverse_etl.sandbox import Sandbox
from tests.canary import KEY, is_leaked, leaks
from tests.disagreements import RECORD_TYPES, disagreements
from tests.processes import Forked, command, end_all
from tests.shop import Held, Shop

ROWS = 160
EVENTS = {"mode": "users_track", "track_record_type": "events", "primary_key": "external_id"}
SQL = f"SELECT 'u' || i AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time FROM range({ROWS}) r(i)"
STATE_FILES = ("state.duckdb", "state.duckdb.wal", "outbox.duckdb", "outbox.duckdb.wal", "journal.jsonl", "lock")
REFUSALS = (
    "damaged",
    "is missing",
    "cannot use",
    "cannot read",
    "not a retl state file",
    "belongs to",
    "symbolic link",
)


class WrongError(AssertionError):
    """What must never happen."""


class Attack:
    """One shop under attack: its folder, its Braze, and all that its commands have printed."""

    def __init__(self, folder: Path, braze: Sandbox, draw: random.Random) -> None:
        self.draw, self.braze, self.printed = draw, braze, ""
        self.trouble: list[BaseException | None] = []  # of the server that attacks
        self.shop = Shop(folder / "shop", braze, environ={"BRAZE_API_KEY": KEY}).sync("it", SQL, **EVENTS)
        self.before = Counter(event["external_id"] for event in braze.events())

    @property
    def state(self) -> Path:
        return self.shop.folder / ".retl/test/it"

    def retl(self, *arguments: str) -> int:
        """Run a command to its end; its exit code."""
        with Forked(command, self.shop.folder, self._environ(), *arguments) as process:
            return self._ended(process)

    def at_once(self, *arguments: str) -> int:
        """The same in this process: a tenth of the time, for what does not kill it."""
        out, err = io.StringIO(), io.StringIO()
        code: object = None
        with (
            patch.dict(os.environ, self._environ(), clear=True),
            patch.object(sys, "argv", ["retl", *arguments]),
            chdir(self.shop.folder),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            try:
                retl_main()
            except SystemExit as ended:
                code = ended.code
        return self._judged(code if isinstance(code, int) else -1, out.getvalue() + err.getvalue())

    def killed(self) -> None:
        """A sync that is killed while the response to a random user is waited for."""
        held = Held(self.braze, external_ids=[f"u{self.draw.randrange(ROWS)}"])
        with Forked(command, self.shop.folder, self._environ(), "sync", "it", "--threads", "1") as process:
            process.wait_for(held.is_held)
            process.send_signal(signal.SIGKILL)
            process.wait()
        held.goes_out.set()
        self.braze.clear_faults()

    def _environ(self) -> Mapping[str, str]:
        return {**os.environ, **self.shop.environ, "COLUMNS": "200"}

    def _ended(self, process: Forked) -> int:
        return self._judged(process.wait(), process.out + process.err)

    def _judged(self, code: int, said: str) -> int:
        self.printed += said
        if code not in (0, 1, 2) or "Traceback" in said:
            raise WrongError(f"exit code {code}: {said[-2000:]}")
        if is_leaked(said):
            raise WrongError("a secret was printed")
        return code

    def check(self) -> None:
        """With the world in order: what must hold."""
        mistakes = [error for error in self.trouble if not isinstance(error, OSError)]
        if mistakes:
            raise mistakes[0] or AssertionError
        found = leaks(self.shop.folder)
        if found:
            raise WrongError(f"a secret was written to {found}")
        code = self.retl("sync", "it")
        now = Counter(event["external_id"] for event in self.braze.events()) - self.before
        twice = [user for user, times in now.items() if times > 1]
        if twice:
            raise WrongError(f"arrived twice: {len(twice)} events")
        if code == 0 and len(now) < ROWS:
            raise WrongError(f"success, and {ROWS - len(now)} events never arrived")
        if code and not any(refusal in self.printed for refusal in REFUSALS):
            self._check_told(set(now))

    def _check_told(self, arrived: set[str]) -> None:
        with Forked(command, self.shop.folder, self._environ(), "rejects", "it", "--output", "json") as process:
            self._ended(process)
            told = {row["key"] for row in json.loads(process.out or "[]")}
        missing = {f"u{n}" for n in range(ROWS)} - arrived - told
        if missing:
            raise WrongError(f"{len(missing)} events never arrived, and nobody is told")


# --- the kinds -------------------------------------------------------------------------------------------------------


def answers(attack: Attack) -> None:
    """Requests get responses that nobody documents."""
    with _between(attack) as url:
        attack.shop.destination = {"endpoint": url, "timeout_s": 1}
        attack.shop.write()
        attack.at_once("sync", "it", "--threads", str(attack.draw.choice((1, 4))))
        attack.at_once("debug")
    attack.shop.destination = {}
    attack.shop.write()
    attack.at_once("state", "accept-workspace", "--all", "--yes")


def damage(attack: Attack) -> None:
    """A file of the state is not what it was."""
    if attack.draw.random() < 0.5:
        attack.retl("sync", "it")
    else:
        attack.killed()
    there = [name for name in STATE_FILES if (attack.state / name).exists()]
    path = attack.state / attack.draw.choice(there)
    # The end of a journal is cut by a loss of power only: then the request of that line was not sent yet.
    how = attack.draw.choice(("lost", "replaced") if path.suffix == ".jsonl" else tuple(_DAMAGES))
    kept = attack.state.parent / "kept"
    shutil.copytree(attack.state, kept)
    _DAMAGES[how](path, attack.draw)
    before = len(attack.printed)
    attack.retl("sync", "it")
    is_refused = any(refusal in attack.printed[before:] for refusal in REFUSALS)
    attack.retl(*attack.draw.choice(_LOOKING))
    if is_refused:  # otherwise the backup is older than what was sent since
        shutil.rmtree(attack.state)
        kept.rename(attack.state)


def many_damages(attack: Attack) -> None:
    """The same from one state, of a run that has sent everything: whatever is damaged, nothing is sent again."""
    attack.at_once("sync", "it")
    sent, kept = len(attack.braze.events()), attack.state.parent / "kept"
    shutil.copytree(attack.state, kept)
    for _ in range(MANY):
        there = [name for name in STATE_FILES if (attack.state / name).exists()]
        _DAMAGES[attack.draw.choice(tuple(_DAMAGES))](attack.state / attack.draw.choice(there), attack.draw)
        for arguments in (attack.draw.choice(_LOOKING), ["sync", "it"]):
            attack.at_once(*arguments)
        if len(attack.braze.events()) != sent:
            raise WrongError("events that had arrived were sent again")
        shutil.rmtree(attack.state)
        shutil.copytree(kept, attack.state)


def links(attack: Attack) -> None:
    """A pull request brought a link, where retl writes."""
    outside = attack.shop.folder.parent / "outside"
    outside.write_text("precious")
    link = attack.shop.folder / attack.draw.choice(
        (
            *(f".retl/test/it/{name}" for name in (*STATE_FILES, "moved.json", "orphan.duckdb", "state.next.duckdb")),
            *("target/compiled/models/it.sql", "target/run_results.json", "target/manifest.json", "plan.retl"),
            *(".retl/.gitignore", "target/.gitignore", ".retl/test/plan.key", ".retl/test/sandbox.sqlite"),
        )
    )
    if attack.draw.random() < 0.5:
        attack.at_once("sync", "it")
    link.parent.mkdir(parents=True, exist_ok=True)
    before = link.rename(outside.with_name("before")) if link.exists() else None
    link.symlink_to(outside)
    attack.at_once("plan", "it", "--out", "plan.retl")
    attack.at_once("sync", "it")
    if outside.read_text() != "precious":
        raise WrongError(f"written through {link.relative_to(attack.shop.folder)}")
    link.unlink(missing_ok=True)
    if before:  # without its state, a sync would begin anew
        before.rename(link)


def plans(attack: Attack) -> None:
    """A plan is not what was reviewed."""
    attack.retl("plan", "it", "--out", "plan.retl")
    path = attack.shop.folder / "plan.retl"
    _DAMAGES[attack.draw.choice(("cut", "changed", "longer"))](path, attack.draw)
    if attack.retl("apply", "plan.retl") == 0 or attack.braze.events()[sum(attack.before.values()) :]:
        raise WrongError("a changed plan was sent")


def texts(attack: Attack) -> None:
    """What a user writes is not what was meant: no traceback, and where a run says success, nothing is left to send."""
    folder, draw = attack.shop.folder, attack.draw
    kept = folder.parent / "written"
    attack.shop.environ["URL"] = attack.braze.url  # to go on trying another one takes its time
    _write_more(folder, attack.braze.url)
    shutil.copytree(folder, kept)
    for _ in range(MANY):
        for name in draw.sample(WRITTEN, draw.choice((1, 1, 1, 2))):
            path = folder / name
            path.write_bytes(_mutated(path.read_bytes(), draw))
        variables = _mutated(b"{country: KR}", draw).decode(errors="surrogateescape").replace("\0", "")
        for arguments in (["ls"], ["compile"], ["test"], ["ls", "--vars", variables]):
            attack.at_once(*arguments)
        if attack.at_once("sync", "--all", "--threads", "4") == 0 and attack.at_once("plan", "--detailed-exitcode"):
            raise WrongError("success, and there is something left to send")
        for name in WRITTEN:
            shutil.copyfile(kept / name, folder / name)
    shutil.rmtree(folder / ".retl", ignore_errors=True)  # what was sent was of other syncs, too
    attack.before = Counter(event["external_id"] for event in attack.braze.events())


def values(attack: Attack) -> None:
    """Rows have odd values: the sandbox reads Braze's pages by itself, and finds nothing that retl did not find."""
    with Sandbox(keys={KEY: {"*"}}, keep_first_type=False) as braze:
        shop = Shop(attack.shop.folder.parent / "odd", braze, environ=attack.shop.environ)
        found = [one for record_type in RECORD_TYPES for one in disagreements(shop, record_type, attack.draw)]
    if found:
        raise WrongError("; ".join(found[:3]))


KINDS: Mapping[str, Callable[[Attack], None]] = {
    "answers": answers,
    "damage": damage,
    "bytes": many_damages,
    "links": links,
    "plans": plans,
    "texts": texts,
    "values": values,
}
MANY = 20
_LOOKING = (["status"], ["rejects"], ["history"], ["debug"], ["state", "show", "it"], ["plan"])
WRITTEN = ("syncs.yml", "syncs.yml", "syncs.yml", "models/it.sql", "models/of.sql", ".env", "seeds/more.csv")
_ODD: Sequence[bytes] = (
    *(b"&a ", b"*a", b"<<: *a", b"!!python/name:os.system", b"!!timestamp ", b"!!bool ", b"? ", b"- ", b": ", b"\t", b"|\n"),
    *(b"{{", b"}}", b"{%", b"%}", b"{{ var('x') }}", b"{{ ref('of') }}", b"{{ 9 ** 99999999 }}", b"{{ 'x' * 10 ** 10 }}"),
    *(b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\xe2\x80\xa8", b'"\\ud800"', "\U0001f600".encode(), b"'", b'"'),
    *(b"1" * 6000, b"[" * 2000, b"{a: " * 500, b"NO", b"0123", b"2026-99-99", b".nan", b"-1", b"1e999", b"~", b"null", b"[]"),
    *(b"; -- ", b";", b"/*", b"--", b"NULL", b"1/0", b"::JSON", b"::BLOB", b"'a'::DATE", b"UNION ALL", b"*", b"(", b")"),
)  # fmt: skip
_MORE = {
    ".env": "A=1\nB='two'\n",
    "seeds/more.csv": "id,name\n1,a\n2,b\n",
    "models/of.sql": "{% set n = 20 %}SELECT 'v' || i AS external_id, i AS n FROM range({{ n }}) r(i) -- the end\n",
}


def _write_more(folder: Path, url: str) -> None:
    """A project that uses a little of everything."""
    for name, text in _MORE.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    text = (folder / "syncs.yml").read_text().replace(url, "'{{ env_var(\"URL\") }}'")
    (folder / "syncs.yml").write_text(
        f"""vars: {{country: KR, more: [1, 2.5, on]}}
{text}- name: of
  model: of
  mode: users_track
  track_record_type: attributes
  primary_key: external_id
  schedule: "0 * * * *"
  tags: [hourly]
  guards: {{max_removed: 10%}}
  data_tests:
  - not_null: n
  - accepted_values: {{column: n, values: [0, 1, 2], severity: warn}}
unit_tests:
- name: one
  sync: of
  expect:
    records: [{{external_id: v0, n: 0}}]
"""
    )


def _mutated(content: bytes, draw: random.Random) -> bytes:
    """A text as an editor, a merge or an attacker leaves it."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        at, to = sorted(draw.randrange(len(content) + 1) for _ in range(2))
        lines = content.splitlines(keepends=True) or [b""]
        line = draw.randrange(len(lines))
        content = draw.choice(
            (
                content[:at] + draw.choice(_ODD) + content[at:],
                content[:at] + draw.choice(_ODD) + content[min(to, at + 12) :],
                content[:at] + bytes([draw.randrange(256)]) + content[at + 1 :],
                content[:at] + content[min(to, at + 40) :],
                b"".join(lines[:line] + lines[line + 1 :]),
                b"".join([*lines[:line], lines[line], *lines[line:]]),
                b"".join([*lines[:line], draw.choice((b"  ", b" ", b"\t")) + lines[line], *lines[line + 1 :]]),
                content[:at],
            )
        )
    return content


def _cut(path: Path, draw: random.Random) -> None:
    os.truncate(path, draw.randrange(path.stat().st_size + 1) if draw.random() < 0.8 else 0)


def _changed(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(draw.choice((1, 8, 200))):
        if content:
            content[draw.randrange(len(content))] ^= draw.randrange(1, 256)
    path.write_bytes(content)


def _flipped(path: Path, draw: random.Random) -> None:
    """One byte, where there is something: most of a database are zeros that nobody reads."""
    content = bytearray(path.read_bytes())
    places = [place for place, byte in enumerate(content) if byte]
    if places:
        content[draw.choice(places)] ^= draw.randrange(1, 256)
    path.write_bytes(content)


def _lost(path: Path, draw: random.Random) -> None:
    path.unlink()


def _replaced(path: Path, draw: random.Random) -> None:
    path.write_bytes(draw.choice((b"", b"what?", b"{}\n", b'{"sent": "x"}\n', draw.randbytes(4096))))


def _longer(path: Path, draw: random.Random) -> None:
    with path.open("ab") as file:
        file.write(draw.randbytes(draw.randrange(1, 5000)))


_DAMAGES: Mapping[str, Callable[[Path, random.Random], None]] = {
    "cut": _cut,
    "changed": _changed,
    "flipped": _flipped,
    "lost": _lost,
    "replaced": _replaced,
    "longer": _longer,
}


@contextmanager
def _between(attack: Attack) -> Iterator[str]:
    """A server in front of Braze that hands requests on, or not, and answers what it likes."""
    draw, lock = attack.draw, threading.Lock()

    class Front(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._say(404, b"{}", {})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                is_taken, is_odd = draw.random() < 0.6, draw.random() < 0.7
                answer = _answer(draw, _OF_TAKEN if is_taken else _OF_REFUSED)
                if is_taken:
                    taken = requests.post(
                        f"{attack.braze.url}{self.path}", body, headers=dict(self.headers), timeout=60
                    )
                    if not is_odd:
                        answer = (taken.status_code, taken.content, {})
            self._say(*answer)

        def _say(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Front) as server:
        server.daemon_threads = True
        server.handle_error = lambda *_: attack.trouble.append(sys.exception())  # type: ignore[method-assign]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


# A status that says the opposite of what was done is a lie, which nobody can see through.
_OF_TAKEN = (200, 201, 202, 203, 204, 206, 299, 408, 500, 502, 503, 504, 520, 599)
_OF_REFUSED = (203, 204, 206, 299, 300, 301, 400, 401, 403, 404, 408, 413, 418, 429, 500, 502, 503, 599)


def _answer(draw: random.Random, statuses: Sequence[int]) -> tuple[int, bytes, Mapping[str, str]]:
    status = draw.choice(statuses)
    headers = draw.choice(
        (
            {},
            {"Retry-After": draw.choice(("0", "-1", "soon", "1e3", "99999999999", "Wed, 21 Oct 2015 07:28:00 GMT"))},
            {"X-RateLimit-Remaining": draw.choice(("-5", "none", "0")), "X-RateLimit-Reset": draw.choice(("0", "x"))},
            {"Content-Length": draw.choice(("0", "99999"))},
            {"Content-Encoding": draw.choice(("gzip", "br", "what"))},
            {"Connection": "close"},
            {"X-Echo": KEY},
        )
    )
    if headers.get("Retry-After") == "99999999999" or headers.get("Retry-After") == "1e3":
        status = 400 if status == 429 else status  # the tool would do as it is told, and wait
    return status, _body(draw), headers


def _body(draw: random.Random) -> bytes:
    def value(depth: int = 0) -> Any:
        kinds: list[Any] = [None, True, -1, 1e300, "", "success", "queued", KEY, f"Bearer {KEY}", [], {}, 2**70]
        kinds += ["\ud800", "\x00\x1b[2J\n", float("nan"), 0.0]
        if depth < 3 and draw.random() < 0.5:
            return [value(depth + 1) for _ in range(draw.randrange(4))]
        return draw.choice(kinds)

    names = ("message", "errors", "attributes_processed", "events_processed", "purchases_processed", "error", "type")
    error = {
        "type": value(),
        "input_array": draw.choice(("events", "attributes", 3, [], {})),
        "index": draw.choice((0, -1, 99, "0", None, True)),
    }
    whole = {name: value() for name in names if draw.random() < 0.5}
    if draw.random() < 0.4:
        whole["errors"] = [error] * draw.choice((1, 3))
    text = json.dumps(draw.choice((whole, whole, whole, value(), [whole]))).encode()
    odd = (
        b"",
        b"\xff\xfe",
        b"[" * 5000,
        f"<html>{KEY}".encode(),
        b"\xef\xbb\xbf" + text,
        text.replace(b"}", b',"message":1}'),
    )
    return draw.choice((text, text, text, text[: len(text) // 2], *odd))


# --- rounds ----------------------------------------------------------------------------------------------------------


def attack(kind: str, number: int, seed: int) -> None:
    """One round. Raises WrongError for what must never happen."""
    draw = random.Random(f"{kind} {seed} {number}")
    with tempfile.TemporaryDirectory(prefix="retl-attack-") as folder, Sandbox(keys={KEY: {"*"}}) as braze:
        one = Attack(Path(folder), braze, draw)
        try:
            KINDS[kind](one)
            braze.clear_faults()
            one.check()
        finally:
            end_all()


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=60)
    options.add_argument("--first", type=int, default=0, help="the number of the first round")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only", nargs="+", default=list(KINDS), choices=KINDS)
    chosen = options.parse_args()
    failed = 0
    for kind in chosen.only:
        wrong = 0
        for number in range(chosen.first, chosen.first + chosen.rounds):
            try:
                attack(kind, number, chosen.seed)
            except WrongError as error:
                print(f"  {kind} {number}: {error}", flush=True)
                wrong += 1
            if sys.stderr.isatty():
                print(f"\r{kind} {number}\033[K", end="\r", file=sys.stderr, flush=True)
        print(f"{kind:10} {chosen.rounds} rounds, seed {chosen.seed}: {wrong} wrong", flush=True)
        failed += wrong
    sys.exit(1 if failed else 0)
