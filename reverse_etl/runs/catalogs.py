"""Whether the catalog that a sync writes to is there, with a field for each column: asked before anything is sent.

unfit()    what Braze lacks ──> errors, each with the call that creates it; or, with --create-catalog, creates it
"""

import threading
from collections.abc import Iterator, Sequence
from functools import partial

from reverse_etl.braze.catalogs import (
    READ_CATALOGS,
    Asking,
    Creation,
    Fields,
    Lack,
    catalogs_of,
    creation,
    lack_of,
)
from reverse_etl.braze.data_types import DataType
from reverse_etl.braze.modes import Extra
from reverse_etl.delivery.reading import HowToRead, Reader
from reverse_etl.delivery.session import Session
from reverse_etl.errors import Problem, ProjectError, StateError
from reverse_etl.plan.plan import Plan
from reverse_etl.project.jinja import variables_read
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.records.attributes import data_type
from reverse_etl.runs.job import Job
from reverse_etl.state.state import State

_KNOWN = "catalogs"
_LOOKS, _LOOK_S = 30, 2.0  # new fields are there some seconds after they were accepted
_CASTS = {
    **{DataType.STRING: "CAST({0} AS VARCHAR)", DataType.NUMBER: "CAST({0} AS DOUBLE)"},
    **{DataType.BOOLEAN: "CAST({0} AS BOOLEAN)", DataType.TIME: "CAST({0} AS TIMESTAMP)"},
}


def refuse_no_catalog(syncs: Sequence[Sync]) -> None:
    """Raises ProjectError if none of the syncs writes to a catalog, which is to be created."""
    if not any(sync.mode.extra is Extra.CATALOG_FIELD for sync in syncs):
        what = "--create-catalog: none of these syncs writes to a catalog"
        raise ProjectError(what, hint="leave it out, or name a sync of mode catalog_items", code="P076")


def unfit(job: Job, session: Session, state: State, plan: Plan) -> list[Problem]:
    """What keeps a run from being sent, as its catalog does not have what it needs; creates that if it is asked to."""
    sync = job.sync
    if sync.mode.extra is not Extra.CATALOG_FIELD or not plan.to_send:
        return []
    try:
        lack = _lack(job, session, state)
        if lack.is_missing and _sends_only_some(job, plan):
            what = (
                f'{sync.name}: catalog "{sync.catalog}" is not in Braze any more, and this run would send only changes'
            )
            hint = f"`retl sync {sync.name} --create-catalog --full-refresh` creates it, and sends all items"
            return [Problem(what, sync.where("catalog"), hint, code="X013")]
        if lack and not lack.retyped and job.options.create_catalog:
            if not _create(job, session, lack):
                what = f"{sync.name}: Braze has accepted new fields of catalog {lack.catalog}, and lacks them still"
                hint = "run it again: Braze only queues new fields"
                return [Problem(what, sync.where("catalog"), hint, code="X014")]
            lack = _lack(job, session, state)
    except StateError as error:
        return [Problem(one.message, sync.where("catalog"), one.hint, code="X014") for one in error.problems]
    if lack.more and plan.requests.get(sync.mode.call.label):
        names = ", ".join(lack.more[:5]) + (", ..." if len(lack.more) > len(lack.more[:5]) else "")
        empties = "items that are sent whole lose their values"
        job.notice(f"warning: catalog {sync.catalog} has fields that the model does not return: {names}; {empties}")
    return [*problems_of(job.project, sync, lack)]


def _sends_only_some(job: Job, plan: Plan) -> bool:
    """Whether the state has items that the run does not send whole."""
    is_part = job.sync.incremental is not None and not job.options.full_refresh
    return plan.in_state > 0 and (plan.added < plan.rows or is_part)


def wanted(state: State, sync: Sync) -> dict[str, DataType]:
    """The fields that the records of the open run need, with their types."""
    types = state.run.types()
    return {name: data_type(of, name in sync.pre_formatted_fields) for name, of in types.items() if name != "id"}


def _lack(job: Job, session: Session, state: State) -> Lack:
    known = session.once(_KNOWN, partial(read_catalogs, session, how(job)))
    return lack_of(str(job.sync.catalog), wanted(state, job.sync), known)


def how(job: Job) -> HowToRead:
    return HowToRead(1, job.options.clock, job.options.policy)


def read_catalogs(session: Session, how: HowToRead) -> dict[str, Fields]:
    """The catalogs of the workspace. Raises StateError if Braze does not list them."""
    reader = Reader(session, READ_CATALOGS, lambda _, said: ([catalogs_of(said)], []), how)
    ((_, (found,)),) = reader.answers(iter([Asking(READ_CATALOGS.path)]))
    return found


def _create(job: Job, session: Session, lack: Lack) -> bool:
    """Create what is lacking, and wait: new fields are only queued. Returns whether it is there; raises StateError."""
    for request in creation(lack, description_of(job.sync)):
        _send(job, session, request)
    what = "creating the catalog" if lack.is_missing else "creating fields of catalog"
    job.notice(f"{what} {lack.catalog}: {', '.join(f'{name} ({of})' for name, of in lack.created.items())}")
    for look in range(_LOOKS):
        if look:
            job.options.clock.wait(_LOOK_S, threading.Event())
        session.forget(_KNOWN)
        known = session.once(_KNOWN, partial(read_catalogs, session, how(job)))
        if not lack_of(lack.catalog, lack.wanted, known):
            return True
    return False


def description_of(sync: Sync) -> str:
    return sync.description or f"model {sync.model}"


def _send(job: Job, session: Session, request: Creation) -> None:
    reader = Reader[None](session, request.call, lambda _, said: ([], []), how(job), telling=(200, 201, 202))
    for _ in reader.answers(iter([request])):
        pass


def problems_of(project: LoadedProject, sync: Sync, lack: Lack) -> Iterator[Problem]:
    """What is wrong with a catalog, and how to create what is missing."""
    where = sync.where("catalog")
    if lack.is_missing:
        what = f'{sync.name}: catalog "{lack.catalog}" is not in Braze'
        yield Problem(what, where, _hint(project, sync, lack), code="X013")
        return
    if lack.fields:
        names = ", ".join(lack.fields)
        what = f'{sync.name}: catalog "{lack.catalog}" has no field {names}'
        yield Problem(what, where, _hint(project, sync, lack), code="X013")
    for name, there in lack.retyped.items():
        types = f"is of type {there}, and the column of type {lack.wanted[name]}"
        what = f'{sync.name}: field "{name}" of catalog "{lack.catalog}" {types}'
        cast = next((text.format(name) for of, text in _CASTS.items() if of == there), None)
        hint = cast or "rename the column with AS: a field keeps its type"
        yield Problem(what, where, hint, code="X013")


def _hint(project: LoadedProject, sync: Sync, lack: Lack) -> str:
    create = f"`retl sync {sync.name} --create-catalog` creates {'it' if lack.is_missing else 'what is missing'}"
    if project.uses_sandbox:
        return create
    destination = project.spec.target.destination
    key = next(iter(variables_read(destination.api_key or "").names), "BRAZE_API_KEY")
    calls = [one.curl(destination.endpoint, key) for one in creation(lack, description_of(sync))]
    return "; or\n  ".join([create, "\n  ".join(calls)])
