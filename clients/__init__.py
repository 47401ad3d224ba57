"""Clients of Braze that others wrote, run against the sandbox as they are: only the base URL is set.

    environments.py   one environment for each client, made when it is first needed
    programs/         what is called: `PROGRAM URL KEY` prints a JSON object, call -> answer
    test_clients.py   what has to come back

`make test-clients`; no part of `make test`, since it installs from PyPI and npm.
"""
