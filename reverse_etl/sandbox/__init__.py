"""A local Braze emulator: it speaks real HTTP, checks what Braze checks, and stores what it receives.

    local.py          Sandbox, serve(): a file and a port -> a running server
    workspace.py      request -> response: key, rate limit, size, endpoint
    http/             the server: the socket, paths, faults, rate limits
    users/            what requests do to users: track, aliases, identify, merge, delete, subscriptions, export
    catalogs/         catalogs, their fields and items
    page/             the page at /, and what it shows
    store.py          a request's transaction
    schema.py         the SQLite file
    read.py           profiles, requests and totals, for tests and people
    erase.py          takes persons out of the log of requests
    snapshots.py      copies to return to
    lag.py            copies that are read for some seconds more
    exact.py          JSON that keeps every digit

Words in parentheses beside a rule, such as (track) or (attr), name the page of Braze that states it.
"A guess" marks what no page states. None of this is shared with the code that sends requests: two independent
readings of the same pages check each other.
"""

from reverse_etl.sandbox.erase import erase_logged
from reverse_etl.sandbox.http.faults import Fault
from reverse_etl.sandbox.http.faults import from_text as parse_fault
from reverse_etl.sandbox.http.limits import OLDER_EXPORTS
from reverse_etl.sandbox.http.limits import from_texts as parse_limits
from reverse_etl.sandbox.http.limits import others_from_texts as parse_others
from reverse_etl.sandbox.local import Sandbox, serve
from reverse_etl.sandbox.read import LoggedRequest, SilentDrop
from reverse_etl.sandbox.schema import FileRefusedError, file_mark

__all__ = [
    "OLDER_EXPORTS",
    "Fault",
    "FileRefusedError",
    "LoggedRequest",
    "Sandbox",
    "SilentDrop",
    "erase_logged",
    "file_mark",
    "parse_fault",
    "parse_limits",
    "parse_others",
    "serve",
]
