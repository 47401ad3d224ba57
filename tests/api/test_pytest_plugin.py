"""The fixture `braze_sandbox` in somebody else's test suite."""

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

ALWAYS_S = 10_000_000_000  # so long a window that no test sees it end
SUITE = """
    import requests

    def send(braze, body, key=None):
        headers = {"Authorization": f"Bearer {key or braze.key}"}
        return requests.post(f"{braze.url}/users/track", json=body, headers=headers)

    def test_signup(braze_sandbox):
        assert send(braze_sandbox, {"attributes": [{"external_id": "u1", "plan": "pro"}]}).status_code == 201
        assert braze_sandbox.profile(external_id="u1")["custom_attributes"] == {"plan": "pro"}

    def test_starts_empty(braze_sandbox):
        assert braze_sandbox.requests() == [] and braze_sandbox.profile(external_id="u1") is None
"""


@pytest.mark.long
def test_each_test_starts_with_an_empty_sandbox_whose_keys_and_limits_come_from_the_ini_file(pytester: pytest.Pytester):
    pytester.makeini(
        "[pytest]\nbraze_sandbox_keys =\n  tracker: users.track\n  other: users.delete\n"
        f"braze_sandbox_limits =\n  users_track = 2/{ALWAYS_S}\n"
    )
    pytester.makepyfile(
        SUITE
        + """
    def test_keys_and_limits(braze_sandbox):
        one = {"attributes": [{"external_id": "u1", "plan": "pro"}]}
        assert braze_sandbox.key == "tracker"
        assert send(braze_sandbox, one, "other").status_code == 403
        assert [send(braze_sandbox, one).status_code for _ in range(3)] == [201, 201, 429]
    """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=3)


@pytest.mark.long
def test_wrong_limit_is_said(pytester: pytest.Pytester):
    pytester.makeini("[pytest]\nbraze_sandbox_limits =\n  users_track = fast\n")
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        ["*braze_sandbox: 'users_track=fast' must have the form NAME=REQUESTS/SECONDS or NAME=none"]
    )


def test_plugin_costs_a_suite_that_does_not_use_it_nothing():
    code = (
        "import sys, pytest; before = set(sys.modules); import reverse_etl.pytest_plugin; "
        "print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['reverse_etl', 'reverse_etl.pytest_plugin']\n"
