"""A workspace of Braze, as a value. Only who talks to it imports `client.py`: that takes longer than a small plan."""

import threading
from dataclasses import dataclass, field
from functools import cache

from reverse_etl.network.network import Network
from reverse_etl.redaction import keep_secret


@dataclass(frozen=True)
class Workspace:
    """A workspace of Braze, or the sandbox: where to send, with which API key, and by which way.

    `was_reached` is set when a connection to it was first made: until then, an address that leads nowhere is wrong.
    """

    url: str
    api_key: str = field(repr=False)
    timeout_s: float = 30.0
    network: Network = field(default_factory=lambda: Network({}), compare=False)
    was_reached: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    def __post_init__(self) -> None:
        keep_secret(self.api_key)

    @property
    def headers(self) -> dict[str, str]:
        """What every request to it carries: who sends it, and the key if there is one."""
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return {**key, "User-Agent": user_agent()}


@cache
def user_agent() -> str:
    """`retl/VERSION`, for the logs of whoever answers."""
    from importlib.metadata import version

    return f"retl/{version('reverse-etl')}"
