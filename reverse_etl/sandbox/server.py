"""The workspace as a web application: Braze's paths, and `/_sandbox/...` to steer and watch it.

| control path                        | effect                                                       |
|-------------------------------------|--------------------------------------------------------------|
| GET, POST, DELETE /_sandbox/faults  | list, add (a JSON array), clear                              |
| POST /_sandbox/reset                | forget everything: users, requests, counts, windows, faults  |
| GET /_sandbox/counts                | sums                                                         |
| GET /_sandbox/requests?after=N      | up to 1,000 log lines after number N                         |

Control paths need no key and are no part of Braze. They answer only to a loopback name, so that no page in a
browser can reach them under a name of its own.
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from email.utils import formatdate

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from reverse_etl.sandbox.exact import Json, dumps, parse
from reverse_etl.sandbox.faults import Faults, as_json, from_json
from reverse_etl.sandbox.read import Reader
from reverse_etl.sandbox.wire import Broken, Pause, Trickle, raw_answer
from reverse_etl.sandbox.workspace import MAX_BODY_BYTES, Call, Outcome, Workspace

Handler = Callable[[Request], Awaitable[Response]]
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost"})
LOG_PAGE = 1000


def application(workspace: Workspace, reader: Reader, faults: Faults, pause: Pause) -> Starlette:
    async def call_braze(request: Request) -> Response:
        try:
            call = await _call(request)
        except ClientDisconnect:  # half a request is none
            return Response()
        return await _respond(workspace.take(call), pause)

    async def faults_set(request: Request) -> Response:
        if request.method == "DELETE":
            faults.clear()
        elif request.method == "POST":
            sent = parse((await request.body()).decode())
            if not isinstance(sent, list):
                raise ValueError("faults are a JSON array of objects")
            faults.add([from_json(one) for one in sent])
        return _json([as_json(fault) for fault in faults.listed()])

    async def reset(request: Request) -> Response:
        reader.empty()
        faults.clear()
        return _json(reader.counts())

    async def counts(request: Request) -> Response:
        return _json(reader.counts())

    async def requests(request: Request) -> Response:
        after = int(request.query_params.get("after", "0"))
        return _json({"requests": [asdict(one) for one in reader.requests(after, LOG_PAGE)]})

    return Starlette(
        routes=[
            Route("/_sandbox/faults", _control(faults_set), methods=["GET", "POST", "DELETE"]),
            Route("/_sandbox/reset", _control(reset), methods=["POST"]),
            Route("/_sandbox/counts", _control(counts), methods=["GET"]),
            Route("/_sandbox/requests", _control(requests), methods=["GET"]),
            Route("/{path:path}", call_braze, methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
        ]
    )


def _control(handler: Handler) -> Handler:
    async def guarded(request: Request) -> Response:
        if request.url.hostname not in LOOPBACK_NAMES or "origin" in request.headers:
            return _json({"message": "control paths answer to loopback names, and not to pages in a browser"}, 403)
        try:
            return await handler(request)
        except ValueError as error:
            return _json({"message": str(error)}, 400)

    return guarded


def _json(value: Json, status: int = 200) -> Response:
    return Response(dumps(value), status, media_type="application/json")


async def _call(request: Request) -> Call:
    """The whole request. What passes the limit is read, so that the client sees the answer, and thrown away."""
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
