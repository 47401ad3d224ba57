"""One message to Slack, a webhook or a mail server, and the heartbeat: out within seconds, or not at all."""

import json
import smtplib
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid

from reverse_etl.alerts.messages import Message, slack_payload, webhook_payload
from reverse_etl.braze.workspace import user_agent
from reverse_etl.errors import ProjectError
from reverse_etl.network.call import Call, NotTaken, make
from reverse_etl.network.faults import Place, fault_of
from reverse_etl.network.network import Network
from reverse_etl.project.spec_alerts import Alert, Email, Slack, label

TIMEOUT_S = 5.0  # of each step: a connection, a response
GIVE_UP_S = 10.0  # of all of it, whatever hangs: a name server, one byte at a time


def send(alert: Alert, message: Message, network: Network) -> NotTaken | None:
    """Send a message; the secrets of `alert` are rendered. None if it was accepted. Never raises for what fails."""
    return _within(
        lambda: _send_mail(alert, message, network) if isinstance(alert, Email) else _post(alert, message, network)
    )


def beat(url: str, network: Network) -> NotTaken | None:
    """GET the URL of a heartbeat."""
    return _within(
        lambda: make(Call("GET", url, '"url" of heartbeat', {"User-Agent": user_agent()}), network, TIMEOUT_S)
    )


def _within(attempt: Callable[[], NotTaken | None]) -> NotTaken | None:
    """The result of `attempt`. It is left to itself if it takes too long."""
    results: list[NotTaken | None] = []

    def try_it() -> None:
        try:
            results.append(attempt())
        except ProjectError as error:
            (problem, *_) = error.problems
            results.append(NotTaken(problem.message, problem.hint))

    thread = threading.Thread(target=try_it, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return NotTaken("there is no memory for a thread")
    thread.join(GIVE_UP_S)
    return results[0] if results else NotTaken(f"no response within {GIVE_UP_S:g} s")


def _post(alert: Alert, message: Message, network: Network) -> NotTaken | None:
    assert not isinstance(alert, Email)
    payload = slack_payload(message) if isinstance(alert, Slack) else webhook_payload(message)
    headers = {"Content-Type": "application/json", "User-Agent": user_agent()}
    headers |= {} if isinstance(alert, Slack) else alert.headers
    body = json.dumps(payload, ensure_ascii=False).encode()
    return make(Call("POST", alert.url, f'"url" of alert "{label(alert)}"', headers, body), network, TIMEOUT_S)


def _send_mail(alert: Email, message: Message, network: Network) -> NotTaken | None:
    place = Place(f"{alert.host}:{alert.port}", alert.host, f'"host" of alert "{label(alert)}"')
    try:
        server = _connected(alert, network)
        try:
            if alert.username is not None and alert.password is not None:
                server.login(alert.username, alert.password)
            refused = server.send_message(_mail(alert, message))
        finally:
            with suppress(smtplib.SMTPException, OSError):  # what it says to a goodbye does not matter
                server.quit()
            server.close()
    except smtplib.SMTPResponseException as error:
        what = "the login" if isinstance(error, smtplib.SMTPAuthenticationError) else "the message"
        return NotTaken(f"{place.url} refused {what}: {error.smtp_code}", f'check alert "{label(alert)}"')
    except smtplib.SMTPRecipientsRefused as error:
        codes = ", ".join(sorted({str(code) for code, _ in error.recipients.values()}))
        return NotTaken(f"{place.url} refused all recipients: {codes}", f'check "to" of alert "{label(alert)}"')
    except smtplib.SMTPNotSupportedError:
        return NotTaken(
            f"{place.url} does not offer STARTTLS, or no login", f'check "port" and "tls" of alert "{label(alert)}"'
        )
    except smtplib.SMTPException:
        return NotTaken(
            f"{place.url} does not speak SMTP as expected", f'check "port" and "tls" of alert "{label(alert)}"'
        )
    except (OSError, ValueError) as error:
        fault = fault_of(error, place)
        return NotTaken(fault.why, fault.hint)
    if refused:
        return NotTaken(f"{place.url} refused some recipients", f'check "to" of alert "{label(alert)}"')
    return None


def _connected(alert: Email, network: Network) -> smtplib.SMTP:
    """A connection, encrypted if it is to be. It goes by no proxy: those of HTTP do not carry mail."""
    name = socket.gethostname()  # smtplib would ask name servers for more
    if alert.tls == "implicit":
        return smtplib.SMTP_SSL(alert.host, alert.port, name, timeout=TIMEOUT_S, context=network.tls)
    server = smtplib.SMTP(alert.host, alert.port, name, timeout=TIMEOUT_S)
    if alert.tls == "starttls":
        try:
            server.starttls(context=network.tls)
        except BaseException:
            with suppress(OSError):
                server.close()
            raise
    return server


def _mail(alert: Email, message: Message) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = alert.sender, ", ".join(alert.to), message.title
    mail["Date"] = format_datetime(message.at)
    mail["Message-ID"] = make_msgid(domain=alert.sender.rpartition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody is to answer that they are on leave
    mail.set_content("\n".join([message.title, "", *message.lines]) + "\n")
    return mail
