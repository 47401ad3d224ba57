"""The page at `/`, and the read paths behind it.

| path                                                     | what                                                |
|----------------------------------------------------------|-----------------------------------------------------|
| GET /_sandbox/pulse                                      | sums, and the faults with how often they hit        |
| GET /_sandbox/users?q=&after=                            | users by the beginning of any identifier            |
| GET /_sandbox/user?external_id= or ?braze_id=            | one user, each value with the request that wrote it |
| GET /_sandbox/events, /_sandbox/purchases ?user=&before= | what a user did                                     |
| GET /_sandbox/log?before=&path=&status=&only=errors      | requests, the latest first                          |
| GET /_sandbox/log/N, /_sandbox/log/N/body                | one request; its body as it came                    |
| GET /_sandbox/drops?before=                              | what was silently dropped                           |
| GET /_sandbox/catalogs                                   | catalogs, with how many items each has              |
| GET /_sandbox/catalog?name=&q=&after=                    | its fields, and items whose id begins with q        |
| GET /_sandbox/item?catalog=&id=                          | one item, and the request that wrote it last        |

Lists come 50 at a time; `next` of one page is `after` or `before` of the next.

Who may ask: any program on this machine, and this page. Not a page of another origin in a browser on this machine:
a name other than loopback is refused (it could be anybody's, led here), so is an `Origin` other than our own, and a
`Sec-Fetch-Site` that says another site asks.
"""

from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from reverse_etl.sandbox.exact import Json, dumps
from reverse_etl.sandbox.http.faults import Faults, as_json
from reverse_etl.sandbox.page.watch import Watch
from reverse_etl.sandbox.read import Reader

Handler = Callable[[Request], Awaitable[Response]]
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost"})
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/_sandbox/page.css": ("page.css", "text/css; charset=utf-8"),
    "/_sandbox/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/_sandbox/icon.svg": ("icon.svg", "image/svg+xml"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


def routes(reader: Reader, faults: Faults) -> list[Route]:
    watch = Watch(reader)

    async def pulse(request: Request) -> Response:
        listed = [{**as_json(fault), "hits": hits} for fault, hits in zip(faults.listed(), faults.hits(), strict=False)]
        # All requests, as the page lists them: its lists are loaded again when a sum changes.
        sums = {"requests": reader.last_request(), "errors": reader.errors(), "catalogs": watch.how_many_catalogs()}
        return answer({**reader.counts(), **sums, "faults": listed})

    async def users(request: Request) -> Response:
        return answer(watch.users(_text(request, "q"), _text(request, "after")))

    async def user(request: Request) -> Response:
        column = "braze_id" if "braze_id" in request.query_params else "external_id"
        return _found(watch.user(column, _text(request, column)), "no such user")

    def acts(table: str) -> Handler:
        async def handler(request: Request) -> Response:
            return answer(watch.acts(table, _number(request, "user") or 0, _number(request, "before")))

        return handler

    async def log(request: Request) -> Response:
        path, status = _text(request, "path"), _text(request, "status")
        only_trouble = _text(request, "only") == "errors"
        return answer(watch.log(_number(request, "before"), path, status, only_trouble=only_trouble))

    async def one(request: Request) -> Response:
        return _found(watch.request(request.path_params["number"]), "no such request")

    async def body(request: Request) -> Response:
        kept = watch.body(request.path_params["number"])
        if kept is None:
            return _found(None, "no such body, or it is no longer stored")
        return Response(kept, media_type="text/plain; charset=utf-8")

    async def drops(request: Request) -> Response:
        return answer(watch.drops(_number(request, "before")))

    async def catalogs(request: Request) -> Response:
        return answer({"catalogs": watch.catalogs()})

    async def catalog(request: Request) -> Response:
        found = watch.catalog(_text(request, "name"), _text(request, "q"), _text(request, "after"))
        return _found(found, "no such catalog")

    async def item(request: Request) -> Response:
        return _found(watch.item(_text(request, "catalog"), _text(request, "id")), "no such item")

    read: dict[str, Handler] = {
        "/_sandbox/pulse": pulse,
        "/_sandbox/users": users,
        "/_sandbox/user": user,
        "/_sandbox/events": acts("events"),
        "/_sandbox/purchases": acts("purchases"),
        "/_sandbox/log": log,
        "/_sandbox/log/{number:int}": one,
        "/_sandbox/log/{number:int}/body": body,
        "/_sandbox/drops": drops,
        "/_sandbox/catalogs": catalogs,
        "/_sandbox/catalog": catalog,
        "/_sandbox/item": item,
    }
    shown = [Route(path, guarded(_asset(*file)), methods=["GET"]) for path, file in _FILES.items()]
    return [*shown, *(Route(path, guarded(handler), methods=["GET"]) for path, handler in read.items())]


def guarded(handler: Handler) -> Handler:
    """The handler for permitted callers, with headers that restrict its responses to this origin."""

    async def checked(request: Request) -> Response:
        if not _may_ask(request):
            text = "the control API is reachable by loopback names only, and not from pages of other origins"
            refused = answer({"message": text}, 403)
            refused.headers.update(_HEADERS)
            return refused
        try:
            reply = await handler(request)
        except ValueError as error:
            reply = answer({"message": str(error)}, 400)
        reply.headers.update(_HEADERS)
        return reply

    return checked


def _may_ask(request: Request) -> bool:
    if request.url.hostname not in LOOPBACK_NAMES:
        return False
    if request.headers.get("origin", f"http://{request.headers['host']}") != f"http://{request.headers['host']}":
        return False
    site = request.headers.get("sec-fetch-site", "none")
    is_visit = request.method == "GET" and request.url.path == "/"  # a link may lead here; there is no data in it
    return site in ("same-origin", "none") or is_visit


def answer(value: Json, status: int = 200) -> Response:
    return Response(dumps(value), status, media_type="application/json")


def _found(value: dict[str, Any] | None, missing: str) -> Response:
    return answer({"message": missing}, 404) if value is None else answer(value)


def _asset(name: str, media_type: str) -> Handler:
    async def handler(request: Request) -> Response:
        content = files("reverse_etl.sandbox.page").joinpath("assets", name).read_bytes()
        return Response(content, headers={"content-type": media_type})

    return handler


def _text(request: Request, name: str) -> str:
    return request.query_params.get(name, "")


def _number(request: Request, name: str) -> int | None:
    text = _text(request, name)
    return int(text) if text else None
