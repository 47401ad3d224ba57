"""The file that says that a server is up, for whoever has started it."""

import json
import os
from pathlib import Path


def write_ready(path: Path, url: str, **more: object) -> None:
    """Whole or not at all, so that whoever waits for the file can read it at once."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as written:
        json.dump({"url": url, "port": int(url.rpartition(":")[2]), "pid": os.getpid(), **more}, written)
    part.replace(path)
