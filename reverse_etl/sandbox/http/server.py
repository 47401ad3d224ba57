"""The workspace as a web application: Braze's paths, and `/_sandbox/...` to control and inspect it.

| control path                       | effect                                                          |
|------------------------------------|-----------------------------------------------------------------|
| GET, POST, DELETE /_sandbox/faults | list, add (a JSON array), clear                                 |
| PUT /_sandbox/faults               | {"faults": [...], "seed": N}: replace all, restart the random   |
|                                    | sequence                                                        |
| POST /_sandbox/reset               | clear everything: users, requests, counts, windows, faults      |
| GET, POST /_sandbox/snapshot       | list; save one, with {"name": ...} under this name              |
| POST /_sandbox/restore             | {"name": ...}: return to that snapshot                          |
| GET /_sandbox/about                | {"file_id", "requests"}: the id stays as long as the file does  |
| GET /_sandbox/counts               | totals                                                          |
| GET /_sandbox/requests?after=N     | up to 1,000 requests after number N                             |
| GET /_sandbox/drop-counts?after=N  | silent drops of requests after number N, counted by kind; with  |
|                                    | &paths=/users/track,... of requests to these                    |

Control paths need no key and are not part of Braze. `page.py` decides who may use them, and has the page and its data.
"""

import json
from dataclasses import asdict
from email.utils import formatdate

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from reverse_etl.sandbox.exact import Json
from reverse_etl.sandbox.http.faults import Fault, Faults, as_json, from_json, from_text
from reverse_etl.sandbox.http.wire import Broken, Pause, Trickle, raw_answer
from reverse_etl.sandbox.page import page
from reverse_etl.sandbox.page.page import answer, guarded
from reverse_etl.sandbox.read import Reader
from reverse_etl.sandbox.snapshots import Snapshots
from reverse_etl.sandbox.workspace import MAX_BODY_BYTES, Call, Outcome, Workspace

LOG_PAGE = 1000


def application(workspace: Workspace, reader: Reader, faults: Faults, snapshots: Snapshots, pause: Pause) -> Starlette:
    async def call_braze(request: Request) -> Response:
        try:
            call = await _call(request)
        except ClientDisconnect:  # half a request is not a request
            return Response()
        return await _respond(workspace.take(call), pause)

    async def faults_set(request: Request) -> Response:
        if request.method == "DELETE":
            faults.clear()
        elif request.method == "POST":
            faults.add(_faults(await _sent(request)))
        elif request.method == "PUT":
            wanted = await _object(request)
            seed = wanted.get("seed", 0)
            if wanted.keys() - {"faults", "seed"} or not isinstance(seed, int):
                raise ValueError('expected {"faults": [...], "seed": integer}')
            faults.replace(_faults(wanted.get("faults", [])), seed)
        return answer([as_json(fault) for fault in faults.listed()])

    async def reset(request: Request) -> Response:
        reader.empty()
        faults.clear()
        return answer(reader.counts())

    async def about(request: Request) -> Response:
        return answer({"file_id": reader.file_id(), "requests": reader.last_request()})

    async def counts(request: Request) -> Response:
        return answer(reader.counts())

    async def requests(request: Request) -> Response:
        after = int(request.query_params.get("after", "0"))
        return answer({"requests": [asdict(one) for one in reader.requests(after, LOG_PAGE)]})

    async def drop_counts(request: Request) -> Response:
        after = int(request.query_params.get("after", "0"))
        paths = [path for path in request.query_params.get("paths", "").split(",") if path]
        return answer({"drops": [asdict(one) for one in reader.drop_counts(after, paths)]})

    async def snapshot(request: Request) -> Response:
        if request.method == "GET":
            return answer({"snapshots": snapshots.names()})
        name = (await _object(request)).get("name")
        return answer({"name": await run_in_threadpool(snapshots.take, name)}, 201)

    async def restore(request: Request) -> Response:
        snapshots.restore((await _object(request)).get("name"))  # here, so that no request comes between
        return answer(reader.counts())

    return Starlette(
        routes=[
            Route("/_sandbox/faults", guarded(faults_set), methods=["GET", "POST", "PUT", "DELETE"]),
            Route("/_sandbox/reset", guarded(reset), methods=["POST"]),
            Route("/_sandbox/about", guarded(about), methods=["GET"]),
            Route("/_sandbox/counts", guarded(counts), methods=["GET"]),
            Route("/_sandbox/requests", guarded(requests), methods=["GET"]),
            Route("/_sandbox/drop-counts", guarded(drop_counts), methods=["GET"]),
            Route("/_sandbox/snapshot", guarded(snapshot), methods=["GET", "POST"]),
            Route("/_sandbox/restore", guarded(restore), methods=["POST"]),
            *page.routes(reader, faults),
            Route("/{path:path}", call_braze, methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
        ]
    )


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


async def _sent(request: Request) -> Json:
    body = await request.body()
    try:
        return json.loads(body, parse_constant=_no_number) if body else {}
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error


async def _object(request: Request) -> dict[str, Json]:
    sent = await _sent(request)
    if not isinstance(sent, dict):
        raise ValueError("expected a JSON object")
    return sent


def _faults(sent: Json) -> list[Fault]:
    if not isinstance(sent, list):
        raise ValueError("faults must be a JSON array of objects")
    return [from_text(one) if isinstance(one, str) else from_json(one) for one in sent]


async def _call(request: Request) -> Call:
    """The whole request. Beyond the limit, it is read and discarded, so that the client sees the response."""
    body, length = [], 0
    async for chunk in request.stream():
        length += len(chunk)
        if length <= MAX_BODY_BYTES:
            body.append(chunk)
    return Call(
        method=request.method,
        path=request.scope["path"],
        query=request.scope["query_string"].decode("latin-1"),
        authorization=request.headers.get("authorization"),
        body=b"".join(body) if length <= MAX_BODY_BYTES else b"",
        is_oversize=length > MAX_BODY_BYTES,
    )


async def _respond(outcome: Outcome, pause: Pause) -> Response:
    reply, hit = outcome.reply, outcome.hit
    is_running = not hit.delay_s or await pause(hit.delay_s)
    for fault in hit.delays:
        is_running = is_running and (fault.until is None or await pause.until(fault.until))
    if reply is None or not is_running:
        return Broken(b"", 0)
    headers = {"content-type": reply.content_type, "date": formatdate(reply.date, usegmt=True)}
    headers |= {name.lower(): text for name, text in reply.headers.items()}
    body = reply.text.encode()
    kind = hit.ending.kind if hit.ending else None
    if kind == "slow" and hit.ending:
        return Trickle(body, hit.ending.seconds, pause, status_code=reply.status, headers=headers)
    if kind in ("drop_after", "truncate", "truncate_head"):
        head, body = raw_answer(reply.status, headers, body)
        cut = {"drop_after": 0, "truncate": len(head) + len(body) // 2, "truncate_head": len("HTTP/1.1 201")}
        return Broken(head + body, cut[kind])
    return Response(body, reply.status, headers)
