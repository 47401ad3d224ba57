"""The fixture `braze_sandbox` for test suites: a local Braze emulator, empty at the start of every test.

One server serves the whole session. Nothing but pytest is imported until a test requests the fixture.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from reverse_etl.sandbox import Sandbox


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "braze_sandbox_keys", "API keys, one per line: NAME, or NAME: users.track, users.delete", "linelist", default=[]
    )
    parser.addini(
        "braze_sandbox_limits",
        "rate limits, one per line: users_track = 100/60 (requests/seconds), or users_track = none",
        "linelist",
        default=[],
    )
    parser.addini("braze_sandbox_seed", "random seed for faults and generated ids", "string", default="0")
    group = parser.getgroup("braze sandbox")
    group.addoption(
        "--braze-sandbox-port", type=int, default=0, help="Port of the braze_sandbox fixture; 0 picks a free port."
    )


@pytest.fixture(scope="session")
def braze_sandbox_server(request: pytest.FixtureRequest) -> Iterator["Sandbox"]:
    """The server of this session. Tests use `braze_sandbox`."""
    from reverse_etl.sandbox import Sandbox, parse_limits

    config = request.config
    try:
        keys = dict(map(_key, config.getini("braze_sandbox_keys"))) or None
        limits = parse_limits([line.replace(" ", "") for line in config.getini("braze_sandbox_limits")])
        seed = int(config.getini("braze_sandbox_seed"))
        sandbox = Sandbox(port=config.getoption("--braze-sandbox-port"), keys=keys, limits=limits, seed=seed)
    except ValueError as error:
        raise pytest.UsageError(f"braze_sandbox: {error}") from error
    with sandbox:
        yield sandbox


@pytest.fixture
def braze_sandbox(braze_sandbox_server: "Sandbox") -> "Sandbox":
    """An empty local Braze: `url`, `key`, `profile()`, `events()`, `requests()`, `add_fault()`, `snapshot()`."""
    braze_sandbox_server.reset()
    return braze_sandbox_server


def _key(line: str) -> tuple[str, set[str]]:
    name, _, scopes = line.partition(":")
    return name.strip(), {scope.strip() for scope in scopes.split(",") if scope.strip()} or {"*"}
