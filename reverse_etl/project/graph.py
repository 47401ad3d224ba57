"""What is built from what: models by ref(), a sync from its model, a sync after others. Pure.

seed.raw_orders ── ref() ──> model.orders ── ref() ──> model.users_track ── model: ──> sync.users_track
                                                       sync.users_track ── after: ──> sync.erasures
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from reverse_etl.project.spec import Sync


def sync_id(name: str) -> str:
    return f"sync.{name}"


def model_id(name: str) -> str:
    return f"model.{name}"


def seed_id(name: str) -> str:
    return f"seed.{name}"


def source_id(table: str) -> str:
    return f"source.{table}"


def dbt_id(name: str) -> str:
    return f"dbt.{name}"


@dataclass(frozen=True)
class Graph:
    """The nodes of a project, by id, and the edges between them.

    `files` are the models' paths relative to the project, by name; `refs` the names that each model refers to;
    `seeds` those of them that are seeds; `sources` the sources that each
    model reads, as `shop.orders`.
    """

    syncs: Sequence[Sync]
    files: Mapping[str, str]
    refs: Mapping[str, Collection[str]]
    seeds: Collection[str] = ()
    sources: Mapping[str, Collection[str]] = field(default_factory=dict)

    @cached_property
    def parents(self) -> Mapping[str, Sequence[str]]:
        """Direct parents: what each node is built from, or runs after."""
        models = {
            model_id(name): [
                *(self._id(ref) for ref in sorted(self.refs[name])),
                *(source_id(table) for table in sorted(self.sources.get(name, ()))),
            ]
            for name in self.files
        }
        syncs = {sync_id(s.name): [model_id(s.model), *(sync_id(name) for name in s.predecessors)] for s in self.syncs}
        return {**{seed_id(name): [] for name in self.seeds}, **models, **syncs}

    def _id(self, ref: str) -> str:
        """What a ref() resolves to; a name that the project does not have is of its dbt project."""
        return model_id(ref) if ref in self.files else seed_id(ref) if ref in self.seeds else dbt_id(ref)

    @cached_property
    def children(self) -> Mapping[str, Sequence[str]]:
        """Direct children: what is built from each node, or runs after it."""
        found: dict[str, list[str]] = {node: [] for node in self.parents}
        for node, parents in self.parents.items():
            for parent in parents:
                found.setdefault(parent, []).append(node)
        return found

    def models_of(self, model: str) -> list[str]:
        """A model and everything it is built from, by name."""
        nodes = reached([model_id(model)], self.parents)
        return sorted(node.removeprefix("model.") for node in nodes if node.startswith("model."))

    def built_from(self, models: Iterable[str], steps: int | None) -> set[str]:
        """Names of the syncs whose model is one of `models`, or is built from one within `steps` steps.

        A sync that only runs after one of them is not included: it is built from something else.
        """
        data = {
            node: [child for child in children if node.startswith("model.")] for node, children in self.children.items()
        }
        return self.names(reached([model_id(name) for name in models], data, steps))

    def before(self, names: Iterable[str], steps: int | None) -> set[str]:
        """Names of syncs, and of those that they run after."""
        return self.names(reached([sync_id(name) for name in names], self.parents, steps))

    def behind(self, names: Iterable[str], steps: int | None) -> set[str]:
        """Names of syncs, and of those that run after them."""
        return self.names(reached([sync_id(name) for name in names], self.children, steps))

    def names(self, nodes: Iterable[str]) -> set[str]:
        return {node.removeprefix("sync.") for node in nodes if node.startswith("sync.")}


def reached(nodes: Iterable[str], edges: Mapping[str, Sequence[str]], steps: int | None = None) -> set[str]:
    """`nodes`, and everything reachable from them within `steps` steps; without `steps`, in any number."""
    found, border = set(nodes), set(nodes)
    while border and steps != 0:
        border = {other for node in border for other in edges.get(node, ())} - found
        found |= border
        steps = None if steps is None else steps - 1
    return found
