"""What commands print goes where it cannot be printed: a terminal that is not UTF-8, a full disk, a reader that ended."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import pytest

from reverse_etl.cli import main
from tests.processes import Forked, command
from tests.shop import Held, Shop, running, some

NAMED = "SELECT 'u' || i AS external_id, 'caf\u00e9 \u2192 \uace0\uac1d' AS \"pr\u00e9nom\" FROM range(3) r(i)"
FIRST = b"it: waiting for 1 request in flight; Ctrl-C again stops at once, and its rows are sent again, or in doubt\r\n"
NOTE = "stdout is {}: characters that it does not have were replaced; to print them, set PYTHONIOENCODING=utf-8\n"


@pytest.fixture
def named(shop: Shop) -> Shop:
    """A shop with names that are not ASCII."""
    return shop.sync("it", NAMED, description="d\u00e9j\u00e0 vu \u2026 \u201cx\u201d")


def printed(shop: Shop, stdout: TextIO, *arguments: str, stderr: TextIO | None = None) -> tuple[int, str]:
    """Run a command with these streams; its exit code, and what it wrote to stderr."""
    errors = stderr or io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shop.folder)
        patch.setenv("BRAZE_API_KEY", shop.environ["BRAZE_API_KEY"])
        patch.setattr(sys, "argv", ["retl", *arguments])
        patch.setattr(sys, "stdout", stdout)
        patch.setattr(sys, "stderr", errors)
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    assert isinstance(code, int)
    return code, errors.getvalue() if isinstance(errors, io.StringIO) else ""


def terminal(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding)


def text_of(stream: io.TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(stream.encoding)


@pytest.mark.parametrize(
    ("encoding", "described"),
    [
        ("ascii", 'd?j? vu ... "x"'),
        ("cp1252", "d\u00e9j\u00e0 vu \u2026 \u201cx\u201d"),
        ("utf-16", "d\u00e9j\u00e0 vu"),
    ],
)
def test_terminal_that_is_not_utf_8_shows_what_it_can(named: Shop, encoding: str, described: str):
    screen = terminal(encoding)
    code, said = printed(named, screen, "ls")
    assert (code, described in text_of(screen)) == (0, True)
    assert said == (NOTE.format("ascii") if encoding == "ascii" else "")


@pytest.mark.parametrize("encoding", some(["ascii", "cp1252"]))
def test_terminal_that_is_not_utf_8_loses_no_plan_and_no_row(named: Shop, encoding: str):
    screen = terminal(encoding)
    plan = ("plan", "it", "--show-values", "--out", "plan.retl")
    code, said = printed(named, screen, *plan)
    assert (code, "wrote plan.retl" in said, "-> ??" in text_of(screen)) == (0, True, True)
    assert printed(named, terminal(encoding), "apply", "plan.retl")[0] == 0
    assert [profile["custom_attributes"] for profile in named.braze.profiles()] == [
        {"pr\u00e9nom": "caf\u00e9 \u2192 \uace0\uac1d"}
    ] * 3


def test_json_loses_no_character_on_any_terminal(named: Shop):
    out, err = terminal("ascii"), terminal("ascii")
    assert printed(named, out, "ls", "--output", "json")[0] == 0
    assert json.loads(text_of(out))[0]["description"] == "d\u00e9j\u00e0 vu \u2026 \u201cx\u201d"
    assert printed(named, terminal("ascii"), "--log-format", "json", "ls", "\uace0\U0001f600", stderr=err)[0] == 2
    assert json.loads(text_of(err))["message"] == 'no sync matches "\uace0\U0001f600"'


@pytest.mark.long
def test_full_disk_behind_stdout_ends_with_an_error_when_everything_is_done(named: Shop):
    error = (
        "cannot write to stdout: No space left on device [X007]\n"
        "  hint: only its output is lost: the command ran to its end\n"
    )
    named.sync("also", NAMED.replace("'u'", "'v'"))
    with open("/dev/full", "w", encoding="utf-8") as full:
        code, said = printed(named, full, "sync", "--all")
    assert (code, said.endswith(error)) == (1, True)
    assert len(list(named.braze.profiles())) == 6
    assert {run for name in ("it", "also") for run in named.rows_of("runs", "status", sync=name)} == {("success",)}
    with open("/dev/full", "w", encoding="utf-8") as full:
        assert printed(named, full, "--version") == (1, error)
    with open("/dev/full", "w", encoding="utf-8") as full:
        assert printed(named, terminal("utf-8"), "sync", "it", stderr=full)[0] == 0
    with open("/dev/full", "w", encoding="utf-8") as full:
        assert printed(named, full, "plan", "it", "--full-refresh", "--detailed-exitcode")[0] == 1


def test_reader_that_has_ended_stops_no_run(named: Shop):
    read, written = os.pipe()
    os.close(read)
    with open(written, "w", encoding="utf-8") as pipe:
        code, said = printed(named, pipe, "sync", "it")
    assert (code, "cannot" in said, len(list(named.braze.profiles()))) == (141, False, 3)


@pytest.mark.long
def test_files_that_are_closed_are_taken_by_no_other(named: Shop):
    with Forked(without_files, named.folder, {**os.environ, **named.environ}, "sync", "it") as process:
        assert (process.wait(), process.out, process.err) == (0, "", "")
    assert (named.rows_of("runs", "status"), len(list(named.braze.profiles()))) == ([("success",)], 3)


def without_files(folder: Path, environ: Mapping[str, str], *arguments: str) -> None:
    """`retl ... <&- >&- 2>&-`."""
    for number in range(3):
        os.close(number)
    sys.stdin = sys.stdout = sys.stderr = None  # type: ignore[assignment]
    command(folder, environ, *arguments)


@pytest.mark.long
def test_no_bar_is_left_on_a_terminal_whatever_ends_the_command(named: Shop):
    """The first Ctrl-C says what is waited for; the second ends at once, and the line and the cursor are as before."""
    held = Held(named.braze, external_ids=["u0"])
    ours, theirs = os.openpty()
    environ = {**os.environ, **named.environ, "TERM": "xterm", "COLUMNS": "120"}
    shown, waits = bytearray(), threading.Event()

    def read() -> None:
        with suppress(OSError):  # when the last one closes it
            while data := os.read(ours, 65536):
                shown.extend(data)
                if FIRST in shown:
                    waits.set()

    reader = threading.Thread(target=read)
    reader.start()
    with Forked(on_terminal, os.ttyname(theirs), named.folder, environ, "sync", "it") as process:
        process.wait_for(held.is_held)
        process.send_signal(signal.SIGINT)
        process.wait_for(waits)
        process.send_signal(signal.SIGINT)
        code = process.wait()
    held.goes_out.set()
    os.close(theirs)
    reader.join()
    os.close(ours)
    said = b"stopped at once: rows of requests in flight may be in Braze: `retl rejects it`\r\n"
    assert (code, shown.endswith(b"\r\x1b[2K\x1b[?25h" + said)) == (130, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_program_is_told_at_once_that_a_first_signal_waits_for_requests(named: Shop, number: signal.Signals):
    """The response is held back until it was told."""
    held = Held(named.braze, external_ids=["u0"])
    arguments = ["--log-format", "json", "sync", "it"]
    with running(named, held, arguments) as process:
        process.send_signal(number)
        process.wait_until(lambda: '"stopping"' in process.err)
        held.goes_out.set()
        assert process.wait() == 128 + number
    lines = [json.loads(line) for line in process.err.splitlines()]
    (stopping,) = [line for line in lines if line["event"] == "stopping"]
    assert [line["event"] for line in lines[-4:]] == ["stopping", "sent", "interrupted", "finished"]
    assert (stopping["message"], stopping["level"], stopping["in_flight"]) == (FIRST.decode().strip(), "warning", 1)


class Writes(io.RawIOBase):
    """A file that notes each write to it."""

    def __init__(self) -> None:
        self.all: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.all.append(bytes(data))
        return len(data)


def test_lines_of_syncs_that_run_at_once_cannot_get_into_each_other(named: Shop):
    """Each is one write with its end, also where Python does not collect what is written: PYTHONUNBUFFERED."""
    named.sync("also", NAMED.replace("'u'", "'v'"))
    out, err = Writes(), Writes()
    streams = [io.TextIOWrapper(file, "utf-8", write_through=True) for file in (out, err)]  # type: ignore[type-var]
    assert printed(named, streams[0], "sync", "--all", "--threads", "2", stderr=streams[1])[0] == 0
    assert (len(out.all), len(err.all) > 3) == (2, True)
    assert [line for line in (*out.all, *err.all) if not line.endswith(b"\n")] == []


@pytest.mark.long
def test_results_go_to_the_file_that_is_to_have_them_while_the_terminal_shows_another_sync(named: Shop, tmp_path: Path):
    named.sync("also", NAMED.replace("'u'", "'v'"), after="it")
    held = Held(named.braze, external_ids=["v0"])
    ours, theirs = os.openpty()
    environ, out = {**os.environ, **named.environ, "TERM": "xterm", "COLUMNS": "120"}, tmp_path / "results.txt"
    shown = bytearray()

    def read() -> None:
        with suppress(OSError):  # when the last one closes it
            while data := os.read(ours, 65536):
                shown.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    with Forked(on_terminal, os.ttyname(theirs), named.folder, environ, "sync", "--all", ">", str(out)) as process:
        process.wait_for(held.is_held)
        process.wait_until(lambda: b"it: success" in shown + out.read_bytes())
        held.goes_out.set()
        code = process.wait()
    os.close(theirs)
    reader.join()
    os.close(ours)
    assert (code, [line.split(",")[0] for line in out.read_text().splitlines()]) == (
        0,
        ["it: success", "also: success"],
    )


@pytest.mark.long
def test_ctrl_c_while_the_program_is_loaded_shows_no_traceback(tmp_path: Path):
    handler = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # whoever runs the tests may ignore it
    (tmp_path / "typer.py").write_text(f"import signal\n{handler}\nsignal.raise_signal(signal.SIGINT)\n")
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    retl = [sys.executable, "-m", "reverse_etl", "ls"]
    ended = subprocess.run(retl, env=environ, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted\n")


def on_terminal(name: str, folder: Path, environ: Mapping[str, str], *arguments: str) -> None:
    """`retl ...` on a terminal; or `retl ... > FILE`."""
    terminal = os.open(name, os.O_RDWR | os.O_NOCTTY)
    for number in range(3):
        os.dup2(terminal, number)
    if ">" in arguments:
        *arguments, _, file = arguments  # type: ignore[assignment]
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), 1)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    command(folder, environ, *arguments)
