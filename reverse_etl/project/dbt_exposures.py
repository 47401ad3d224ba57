"""What syncs use of a dbt project, as exposures: YAML that lets dbt show, select and build what Braze needs.

exposure:retl_<sync>  <- depends_on: the models, seeds, snapshots and sources that the sync's SQL refers to
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reverse_etl.project.dbt_manifest import Relation
from reverse_etl.project.jinja import is_template
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Dbt, Sync

HEADER = "# Written by `retl exposures`: what is sent to Braze from this dbt project."
NOBODY = {"name": "retl"}  # dbt requires a name or an email


def exposures(project: LoadedProject, syncs: Iterable[Sync]) -> list[dict[str, Any]]:
    """An exposure for every sync that reads from dbt. Raises ProjectError if a model cannot be compiled."""
    project.dbt  # noqa: B018  # reports what is wrong with it before any model is compiled
    names = _names(project.sync_names)
    return [
        _exposure(names[sync.name], sync, reads, project)
        for sync in syncs
        if (reads := [relation for relation in project.reads(sync) if relation.call])
    ]


def as_yaml(found: Sequence[Mapping[str, Any]]) -> str:
    """A properties file of dbt, for any folder under its model-paths."""
    import yaml

    text = yaml.safe_dump({"version": 2, "exposures": found}, sort_keys=False, allow_unicode=True, width=110)
    return f"{HEADER}\n{text}"


def owner(dbt: Dbt | None) -> dict[str, str]:
    said = dbt.owner.model_dump(exclude_none=True) if dbt and dbt.owner else {}
    return said or NOBODY


def _exposure(name: str, sync: Sync, reads: Sequence[Relation], project: LoadedProject) -> dict[str, Any]:
    about = {
        "sync": sync.name,
        "model": sync.model,
        "mode": sync.mode_name,
        "track_record_type": sync.track_record_type,
        "target": project.target_name,
    }
    return {
        "name": name,
        "label": f"Braze: {sync.name}",
        "type": "application",
        "maturity": "low" if project.uses_sandbox else "high",
        "description": _literal(sync.description or f"Rows of models/{sync.model}.sql, sent to Braze by retl."),
        "owner": owner(project.spec.dbt),
        "depends_on": sorted({relation.call for relation in reads}),
        "config": {
            "tags": [_literal(tag) for tag in sync.tags],
            "meta": {"retl": {key: value for key, value in about.items() if value is not None}},
        },
    }


def _names(syncs: Sequence[str]) -> dict[str, str]:
    """A unique name for every sync that dbt accepts: letters, digits and _ only."""
    names: dict[str, str] = {}
    for sync in syncs:
        name = wanted = f"retl_{sync.replace('-', '_')}"
        number = 1
        while name in names.values():
            number += 1
            name = f"{wanted}_{number}"
        names[sync] = name
    return names


def _literal(text: str) -> str:
    """A string that dbt, which renders it as Jinja, shows as written."""
    return f"{{% raw %}}{text}{{% endraw %}}" if is_template(text) else text
