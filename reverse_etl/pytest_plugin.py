"""The fixture `braze_sandbox` for test suites: a local Braze, empty at the start of each test.

One server serves the whole session. Nothing but pytest is imported until a test asks for the fixture.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from reverse_etl.sandbox import Sandbox


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "braze_sandbox_keys", "API keys, a line each: NAME, or NAME: users.track, users.delete", "linelist", default=[]
    )
    parser.addini(
        "braze_sandbox_limits",
        "rate limits, a line each: users_track = 100/60 (requests/seconds), or = none",
        "linelist",
        default=[],
    )
    parser.addini("braze_sandbox_seed", "of chance in faults, and of made-up ids", "string", default="0")
    group = parser.getgroup("braze sandbox")
    group.addoption(
        "--braze-sandbox-port", type=int, default=0, help="Port of the fixture braze_sandbox: 0 takes a free one."
    )


@pytest.fixture(scope="session")
def braze_sandbox_server(request: pytest.FixtureRequest) -> Iterator["Sandbox"]:
    """The server of this session. Tests take `braze_sandbox`."""
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
    """A local Braze that is empty: `url`, `key`, `profile()`, `events()`, `requests()`, `add_fault()`, `snapshot()`."""
    braze_sandbox_server.reset()
    return braze_sandbox_server


def _key(line: str) -> tuple[str, set[str]]:
    name, _, scopes = line.partition(":")
    return name.strip(), {scope.strip() for scope in scopes.split(",") if scope.strip()} or {"*"}
