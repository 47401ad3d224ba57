"""The request that the bare clients repeat."""

import json

ROWS = 75


def body() -> bytes:
    """A request of 75 rows with 20 columns, of the size that those of the bench have."""
    columns = {f"column_{n}": "a value of text" for n in range(20)}
    rows = [{"external_id": f"user-{n:09}", **columns} for n in range(ROWS)]
    return json.dumps({"attributes": rows}, separators=(",", ":")).encode()
