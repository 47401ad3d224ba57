"""Sync SQL models to Braze. From Python: `from reverse_etl import Project`.

The names in `__all__` are imported when they are first used, so that `import reverse_etl` and the command stay fast.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reverse_etl.api import Project
    from reverse_etl.errors import RetlError
    from reverse_etl.results import PlanResult, RevertResult, SyncError, SyncResult, SyncResults, VerifyResult

__all__ = [
    "PlanResult",
    "Project",
    "RetlError",
    "RevertResult",
    "SyncError",
    "SyncResult",
    "SyncResults",
    "VerifyResult",
]

_HOMES = {"Project": "api", "RetlError": "errors"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'results')}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
