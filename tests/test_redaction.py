"""What takes secrets out of texts."""

import base64
import html
import json
import logging
import subprocess
import sys
import textwrap
import traceback
from urllib.parse import quote, quote_plus

import pytest

from reverse_etl.errors import ProjectError
from reverse_etl.redaction import keep_secret, redact, redact_bytes, without_secrets
from reverse_etl.report.log import logger

KEY = "0f9d6b1e-5c2a-4e7f-9d3b-8a1c6e4f2b70"
ODD = "Ab/+cd\"ef'gh\\ij&kl=<mn>%op?qr"  # whatever a form may change


@pytest.fixture(autouse=True, scope="module")
def secrets() -> None:
    for secret in (KEY, ODD):
        keep_secret(secret)


def basic(user: str, key: str) -> str:
    return base64.b64encode(f"{user}:{key}".encode()).decode()


@pytest.mark.parametrize("secret", [KEY, ODD])
@pytest.mark.parametrize(
    "form",
    [
        str, repr, json.dumps, quote, quote_plus, html.escape, ascii,
        lambda s: quote(s, safe=""), lambda s: s.encode().hex(), lambda s: base64.b64encode(s.encode()).decode(),
        lambda s: base64.urlsafe_b64encode(s.encode()).decode(), lambda s: basic("", s), lambda s: basic("me", s),
        lambda s: basic("you", s), lambda s: json.dumps({"": s}),
    ],
)  # fmt: skip
def test_no_form_of_a_secret_is_left(form, secret: str):
    written = form(secret)
    for text in (written, f"key={written} is wrong", f"{written}{written}"):
        found = redact(text)
        assert "***" in found
        assert not any(written[at : at + 8] in found for at in range(6, len(written) - 10))


@pytest.mark.parametrize("length", [8, 9, 20, len(KEY) - 1])
def test_secret_that_was_cut_is_not_left_either(length: int):
    assert redact(f"Invalid API key: {KEY[:length]}") == "Invalid API key: ***"
    assert redact(f"Invalid API key: {KEY[:length]}... (401)") == "Invalid API key: ***... (401)"
    encoded = basic("me", KEY)[: length + 4]
    assert redact(f"Basic {encoded}").endswith("***")


def test_text_without_a_secret_stays_as_it_is():
    text = f"0f9d6b1 is no {KEY[1:]} of ours, ümlaut \N{GRINNING FACE}"
    assert redact(text) == text
    assert redact_bytes(text.encode()) == text.encode()
    assert redact_bytes(f"ü {KEY} ü".encode()) == "ü *** ü".encode()


def test_short_secret_is_not_told_from_words():
    keep_secret("sandbox")
    assert redact("the sandbox") == "the sandbox"


def test_key_of_an_account_is_taken_out_line_by_line_and_the_words_around_it_are_not():
    line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEA"
    key = f"-----BEGIN PRIVATE KEY-----\n{line}\n-----END PRIVATE KEY-----\n"
    keep_secret(json.dumps({"type": "service_account", "project_id": "a-project-of-ours", "private_key": key}))
    assert redact(f"a-project-of-ours: {line}") == "a-project-of-ours: ***"
    keep_secret("?sv=2024-01-01&sp=rwdl&sig=abc%2Bdefghijklmnopqrstuvwxyz012345%3D")
    assert redact("sv=2024-01-01&sig=abc%2Bdefghijklmnopqrstuvwxyz012345%3D") == "sv=2024-01-01&sig=***"
    keep_secret("AGE-SECRET-KEY-1QQQSYQCYQ5RQWZQFPG9SCRGWPUGPZYSNZS23V9CCRYDPK8QARC0S")
    assert redact("AGE-SECRET-KEY-1QQQSYQCYQ5RQWZQFPG9SCRGWPUGPZYSNZS23V9CCRYDPK8QARC0S") == "AGE-SECRET-KEY-1***"
    assert redact("(AGE-SECRET-KEY-1...)") == "(AGE-SECRET-KEY-1...)"


def test_no_error_of_ours_repeats_a_secret_and_its_cause_can_be_cleared_of_it():
    @without_secrets()
    def fail() -> None:
        try:
            raise ValueError(f"cannot sign with {KEY}")
        except ValueError as error:
            raise ProjectError(f"failed: {error}", hint=f"use another than {KEY}") from error

    with pytest.raises(ProjectError) as caught:
        fail()
    assert str(caught.value) == "failed: cannot sign with ***\n  hint: use another than ***"
    printed = "".join(traceback.format_exception(caught.value))
    assert "ValueError: cannot sign with ***\n" in printed
    assert KEY not in printed


def test_no_log_line_repeats_a_secret(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        logger.info("the key is %s", KEY)
    assert caplog.messages == ["the key is ***"]


def test_no_traceback_of_a_command_repeats_a_secret():
    """An error of ours that nobody foresaw, with a secret in its text and in that of its cause."""
    code = f"""
        from reverse_etl import cli
        from reverse_etl.redaction import keep_secret

        @cli.app.command()
        def broken() -> None:
            keep_secret({KEY!r})
            print({KEY!r})
            try:
                raise ValueError({KEY!r})
            except ValueError as error:
                raise KeyError({KEY!r}) from error

        cli.main()
        """
    done = subprocess.run([sys.executable, "-", "broken"], input=textwrap.dedent(code), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "***\n")
    assert done.stderr.endswith("KeyError: '***'\n")
    assert "ValueError: ***" in done.stderr
    assert KEY not in done.stderr
