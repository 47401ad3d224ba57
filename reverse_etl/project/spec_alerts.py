"""The keys of `alerts` and `heartbeat` in syncs.yml: who is told what became of syncs. Pure.

Secrets (`SECRETS`) stay templates: they are read from the environment when somebody is told, and by nothing else.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from reverse_etl.network.proxies import LOOPBACK
from reverse_etl.project.fields import Strict, Words

NAME = r"^[A-Za-z0-9_][A-Za-z0-9_-]*$"
Event = Literal["failed", "blocked", "incomplete", "in_doubt", "withheld", "recovered"]
EVENTS: tuple[Event, ...] = ("failed", "blocked", "incomplete", "in_doubt", "withheld", "recovered")
SECRETS = ("url", "headers", "password")  # the keys that must come from the environment
_MAILBOX = r"^[^\s@<>,;:\"]+@[^\s@<>,;:\"]+$"
Mailbox = Annotated[str, StringConstraints(pattern=_MAILBOX)]


class _Channel(Strict):
    """What all kinds of alerts have."""

    name: str | None = Field(None, pattern=NAME, description="name of the alert; default: its type")
    targets: Words = Field((), description="targets that it is for; default: all")
    when: tuple[Event, ...] = Field(EVENTS, min_length=1, description="changes of a sync that are told")
    after: int = Field(
        1, ge=1, description="how many runs in a row must not succeed before it is told; deletes and consent: 1"
    )


class Slack(_Channel):
    """An incoming webhook of Slack."""

    type: Literal["slack"] = Field(description="an incoming webhook of Slack")
    url: str = Field(repr=False, description="URL of the webhook, from the environment: {{ env_var('SLACK_URL') }}")


class Webhook(_Channel):
    """Any webhook."""

    type: Literal["webhook"] = Field(description="any URL that takes a POST of JSON")
    url: str = Field(repr=False, description="its URL, from the environment")
    headers: dict[str, str] = Field({}, repr=False, description="headers to send, with values from the environment")


class Email(_Channel):
    """Mail by SMTP."""

    type: Literal["email"] = Field(description="mail by SMTP")
    host: str = Field(min_length=1, pattern=r"^[A-Za-z0-9.:_-]+$", description="SMTP server")
    port: int = Field(587, ge=1, le=65535, description="its port")
    tls: Literal["starttls", "implicit", "none"] = Field(
        "starttls", description="how the connection is encrypted; implicit: from its start (port 465)"
    )
    username: str | None = Field(None, description="user, if the server needs one")
    password: str | None = Field(None, repr=False, description="password of the user, from the environment")
    sender: Mailbox = Field(alias="from", description="address that it is sent from")
    to: Annotated[tuple[Mailbox, ...], Field(min_length=1)] = Field(description="addresses that it is sent to")

    @model_validator(mode="after")
    def _login_is_whole_and_encrypted(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("must have both username and password, or neither")
        if self.password is not None and self.tls == "none" and self.host not in LOOPBACK:
            raise ValueError("must not send a password without encryption: remove tls: none")
        return self


Alert = Slack | Webhook | Email
ALERTS: Mapping[str, type[Slack] | type[Webhook] | type[Email]] = {"slack": Slack, "webhook": Webhook, "email": Email}


class Heartbeat(Strict):
    """Who is told that `retl run-due` and `retl scheduler` run."""

    url: str = Field(repr=False, description="URL that gets a GET after each run-due, from the environment")
    targets: Words = Field((), description="targets that it is for; default: all")


def is_for(channel: Alert | Heartbeat, target: str) -> bool:
    """Whether it is for runs of a target."""
    return not channel.targets or target in channel.targets


def label(alert: Alert) -> str:
    """The name of an alert."""
    return alert.name or alert.type
