"""Reads from Braze, request by request and several at once: what it returns is about users, and changes nothing."""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sized
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from reverse_etl.braze.answers import Answer, NoAnswer, NotSent, errors_of, hint_for, json_object
from reverse_etl.braze.rate_limit_headers import exhausted_wait_s, throttled_wait_s
from reverse_etl.braze.subscriptions import Read, User, kind_of, questions, told
from reverse_etl.delivery.retry import RetryPolicy, next_wait_s
from reverse_etl.delivery.session import Session
from reverse_etl.errors import StateError
from reverse_etl.system.clock import Clock
from reverse_etl.words import one_line

if TYPE_CHECKING:
    from reverse_etl.braze.client import Connection

_JITTER = 0.5
_AHEAD = 4  # questions per thread that wait for it
MOST_THREADS = 40  # as many requests per second as Braze allows: each takes less than one
NOTHING_SENT = "run it again: nothing was sent"
T = TypeVar("T")


class Endpoint(Protocol):
    """What is asked: `path`, the family of endpoints that shares its rate limit, and the permission that it needs."""

    @property
    def path(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def permission(self) -> str: ...


class Asked(Protocol):
    """One request: a GET without a body, a POST with one. `people` are those whom it is about, if it is about some."""

    @property
    def path(self) -> str: ...
    @property
    def body(self) -> bytes | None: ...
    @property
    def people(self) -> Sized: ...
    @property
    def is_again(self) -> bool: ...


Hears = Callable[[Any, Mapping[str, Any]], tuple[list[T], list[Any]]]
_SUCCESS = (200, 201)


@dataclass(frozen=True)
class HowToRead:
    """`again` is the end of the hint of an error: what to do once its cause is gone."""

    threads: int
    clock: Clock
    policy: RetryPolicy
    again: str = NOTHING_SENT


def read_users(
    session: Session, read: Read, people: Iterable[str], fields: tuple[str, ...], how: HowToRead
) -> dict[str, list[User]]:
    """What Braze tells of each of the people, who are as in `braze/subscriptions.py`: by email or phone, it may be
    several users; of one that it does not know, none. Raises StateError if it does not tell."""
    found: dict[str, list[User]] = {person: [] for person in people}
    in_order = sorted(found, key=kind_of)
    for _, users in Reader(session, read, told, how).answers(questions(read, in_order, fields)):
        for person, user in users:
            found[person].append(user)
    return found


class Reader(Generic[T]):
    """Asks questions in threads, under the rate limit of the endpoint that it `reads`, and closes its connections.
    `hears` says what a response tells, if its status is one of those that tell something."""

    def __init__(
        self,
        session: Session,
        read: Endpoint,
        hears: Hears[T],
        how: HowToRead,
        telling: Collection[int] = _SUCCESS,
    ) -> None:
        from reverse_etl.braze.client import Deadlines

        self._read, self._hears, self._clock, self._policy = read, hears, how.clock, how.policy
        self._telling = telling
        self._again, self._threads = how.again, min(how.threads, MOST_THREADS)
        self._workspace, self._pacer = session.workspace(), session.pacer(read.family)
        self._lock, self._stop, self._own = threading.Lock(), threading.Event(), threading.local()
        self._deadlines, self._connections = Deadlines(), list["Connection"]()

    def answers(self, questions: Iterator[Asked]) -> Iterator[tuple[int, list[T]]]:
        """For each response, of how many users more it told, and what. Raises StateError if one cannot be had."""
        with ThreadPoolExecutor(self._threads, "retl-read") as pool:
            try:
                open_ = {pool.submit(self._ask, one) for one in islice(questions, self._threads * _AHEAD)}
                while open_:
                    done, open_ = wait(open_, return_when=FIRST_COMPLETED)
                    for told in map(Future.result, done):
                        users, found, more = told
                        open_ |= {pool.submit(self._ask, one) for one in (*more, *islice(questions, 1))}
                        yield users, found
            finally:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                self._deadlines.close()
                for connection in self._connections:
                    connection.close()

    def _ask(self, question: Asked) -> tuple[int, list[T], list[Asked]]:
        began_s, attempt = self._clock.now_s(), 0
        while self._has_turn():
            result, attempt = self._request(question), attempt + 1
            if isinstance(result, Answer) and result.status in self._telling:
                with suppress(ValueError):
                    found, more = self._told(question, result)
                    return 0 if question.is_again else len(question.people), found, more
            elapsed_s = self._clock.now_s() - began_s
            if isinstance(result, Answer) and result.status == _THROTTLED:
                attempt -= 1  # its next turn waits
                if elapsed_s < self._policy.throttled_give_up_after_s:
                    continue
            wait_s = next_wait_s(attempt, elapsed_s, self._policy, _JITTER) if _may_pass(result) else None
            if wait_s is None:
                raise self._not_read(result)
            self._clock.wait(wait_s, self._stop)
        return 0, [], []

    def _told(self, question: Asked, answer: Answer) -> tuple[list[T], list[Any]]:
        """What a response tells, and what must be asked besides. Raises ValueError if it tells nothing."""
        return self._hears(question, json_object(answer.body) or {})

    def _has_turn(self) -> bool:
        """Wait until the rate limit allows a request; False if no more are to be made."""
        with self._lock:
            wait_s = self._pacer.reserve(self._clock.now_s())
        while not self._stop.is_set():
            if wait_s > 0:
                self._clock.wait(wait_s, self._stop)
            with self._lock:
                now_s = self._clock.now_s()
                wait_s = self._pacer.reserve(now_s) if self._pacer.is_paused(now_s) else self._pacer.start(now_s)
            if wait_s <= 0:
                return not self._stop.is_set()
        return False

    def _request(self, question: Asked) -> Answer | NotSent | NoAnswer:
        connection, body = self._connection(), question.body
        result = connection.get(question.path) if body is None else connection.send(question.path, body)
        if isinstance(result, Answer):
            throttled = result.status == _THROTTLED
            pause_s = throttled_wait_s(result.headers) if throttled else exhausted_wait_s(result.headers)
            if pause_s:
                with self._lock:
                    self._pacer.pause(self._clock.now_s(), pause_s)
            if self._pacer.keeps_free:
                with self._lock:
                    self._pacer.heed(self._clock.now_s(), result.headers)
        return result

    def _connection(self) -> "Connection":
        """That of this thread."""
        from reverse_etl.braze.client import Connection

        if not hasattr(self._own, "connection"):
            self._own.connection = Connection(self._workspace, self._deadlines)
            with self._lock:
                self._connections.append(self._own.connection)
        connection: Connection = self._own.connection
        return connection

    def _not_read(self, result: Answer | NotSent | NoAnswer) -> StateError:
        """Without the message of Braze, which may name users; with the id of an error, which does not."""
        path = self._read.path
        again = self._again
        if not isinstance(result, Answer):
            hint = getattr(result, "hint", None)
            return StateError(f"{path}: {result.why}", hint=f"{hint}; then {again}" if hint else again, code="S029")
        what = f"{path}: Braze returned {result.status}"
        if result.status in self._telling:
            what += " with a response that cannot be understood"
        if errors := errors_of(json_object(result.body) or {}):
            what += f": {one_line(str(errors[0]['id']))[:100]}"
        hint = hint_for(result.status, self._read.permission)
        return StateError(what, hint=f"{hint}; then {again}" if hint else again, code="S029")


_THROTTLED = 429


def _may_pass(result: Answer | NotSent | NoAnswer) -> bool:
    """Whether the same request may be answered otherwise."""
    if isinstance(result, Answer):
        return result.status < 300 or result.status >= 500 or result.status in (408, _THROTTLED)
    return not (isinstance(result, NotSent) and result.is_final)
