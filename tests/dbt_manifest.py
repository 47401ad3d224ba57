"""The part of a manifest.json that retl reads: python -m tests.dbt_manifest FROM TO writes it into a small file."""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from reverse_etl.project.dbt_manifest import Node, SourceTable, _Metadata

_TEXTS = ("description", "columns")  # for people; nothing that is sent depends on them


def trimmed(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest with the keys that decide what retl reads, and no others."""
    return {
        "metadata": _kept(manifest["metadata"], _Metadata),
        "nodes": {key: _kept(node, Node) for key, node in sorted(manifest["nodes"].items())},
        "sources": {key: _kept(table, SourceTable) for key, table in sorted(manifest["sources"].items())},
        "disabled": {key: [_kept(node, Node) for node in nodes] for key, nodes in sorted(manifest["disabled"].items())},
    }


def _kept(part: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    keys = [field.alias or name for name, field in model.model_fields.items() if name not in _TEXTS]
    kept = {key: part[key] for key in keys if key in part}
    if "config" in kept:
        kept["config"] = {"materialized": kept["config"].get("materialized")}
    return kept


if __name__ == "__main__":
    source, to = map(Path, sys.argv[1:])
    to.write_text(json.dumps(trimmed(json.loads(source.read_text())), indent=1) + "\n")
