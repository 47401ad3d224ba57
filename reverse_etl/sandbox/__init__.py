"""Braze on your machine: a stand-in that speaks real HTTP, checks what Braze checks and keeps what it is sent.

    local.py          Sandbox, serve(): a file and a port -> a running server
    server.py         HTTP -> calls; the control paths
    page.py           the page at /, who may ask, and the read paths behind it
      assets/           its HTML, CSS and JavaScript
      watch.py          what it shows, a page of rows at a time
    snapshots.py      copies to go back to
    wire.py           the listening socket, broken answers
    faults.py         what goes wrong on demand
    workspace.py      call -> reply: key, rate limit, size, endpoint
      limits.py         fixed windows
      track_checks.py   /users/track: which objects are taken
      track.py          /users/track: what they change
        values.py         custom attributes
        fields.py         standard fields
        times.py          date-times
      identities.py     aliases, identify, merge, delete, external ids
      subscriptions.py  subscription groups
      export.py         /users/export/ids
        people.py         which user is meant
      catalogs.py       catalogs and their fields
      catalog_items.py  what is in them
        catalog_values.py  types of fields
        catalog_errors.py  what is answered to mistakes
    store.py          a request's transaction
    catalog_store.py  catalogs in it
    read.py           profiles, requests, sums for tests and people
    schema.py         the SQLite file
    exact.py          JSON that keeps every digit

Words in parentheses, such as (track) or (attr), beside a rule name the page of Braze that states it.
"A guess" marks what no page states. None of this is shared with the code that makes requests: two readings
of the same pages check each other.
"""

from reverse_etl.sandbox.faults import Fault
from reverse_etl.sandbox.faults import from_text as parse_fault
from reverse_etl.sandbox.limits import OLDER_EXPORTS
from reverse_etl.sandbox.limits import from_texts as parse_limits
from reverse_etl.sandbox.local import Sandbox, serve
from reverse_etl.sandbox.read import LoggedRequest, SilentDrop
from reverse_etl.sandbox.schema import FileRefusedError

__all__ = [
    "OLDER_EXPORTS",
    "Fault",
    "FileRefusedError",
    "LoggedRequest",
    "Sandbox",
    "SilentDrop",
    "parse_fault",
    "parse_limits",
    "serve",
]
