"""A certificate for this machine from a throw-away authority of its own: python -m bench.certificate FOLDER"""

import sys
from pathlib import Path
from typing import NamedTuple

import trustme


class Certificate(NamedTuple):
    """PEM files: the authority for clients, the chain and key for the server."""

    ca: Path
    cert: Path
    key: Path


def make_certificate(folder: Path) -> Certificate:
    """Make a new authority and its certificate for localhost and 127.0.0.1 in `folder`, over what is there."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = Certificate(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(str(paths.ca))
    paths.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    paths.key.touch(mode=0o600)
    issued.private_key_pem.write_to_path(str(paths.key))
    return paths


if __name__ == "__main__":
    for path in make_certificate(Path(sys.argv[1])):
        print(path)
