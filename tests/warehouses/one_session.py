"""A server of Spark Connect in front of another, which lets all sessions be one: `python -m` it, with the address.

It prints its own address, and for each line that it reads, how many bytes it has sent, and how many statements run that
have the text of the line in them, and may return rows. A session that ends leaves that
one as it is, and interrupts only what it has begun itself.
"""

import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Thread
from typing import Any

import grpc

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pyspark.sql.connect.proto import base_pb2 as messages

SESSION = "0f6e6e2c-6f0e-4c37-9d0c-0d2f5a4c8e11"
_SERVICE = "/spark.connect.SparkConnectService/"
_ONE_TO_ONE = ("AnalyzePlan", "Config", "ArtifactStatus", "ReleaseExecute", "FetchErrorDetails")
_MOST = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_NAMES = {"ArtifactStatus": "ArtifactStatuses", "AnalyzePlan": "AnalyzePlan", "ExecutePlan": "ExecutePlan"}


def _request(method: str) -> Any:
    return getattr(messages, f"{_NAMES.get(method, method)}Request")


def _response(method: str) -> Any:
    streamed = {"ReattachExecute": "ExecutePlan"}
    return getattr(messages, f"{_NAMES.get(method, streamed.get(method, method))}Response")


class _OneSession(grpc.GenericRpcHandler):
    def __init__(self, channel: grpc.Channel) -> None:
        self._channel, self.sent = channel, 0  # bytes
        self.running = defaultdict[str, dict[str, bytes]](dict)  # the operations of each session

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        method = call.method.removeprefix(_SERVICE)
        if method == "Interrupt":
            return grpc.unary_unary_rpc_method_handler(
                self._interrupt, _request(method).FromString, _response(method).SerializeToString
            )
        if method == "ReleaseSession":
            return grpc.unary_unary_rpc_method_handler(
                lambda request, _: _response(method)(session_id=request.session_id),
                _request(method).FromString,
                _response(method).SerializeToString,
            )
        if method in ("ExecutePlan", "ReattachExecute"):
            return grpc.unary_stream_rpc_method_handler(
                lambda request, context: self._stream(method, request, context),
                _request(method).FromString,
                _response(method).SerializeToString,
            )
        if method == "AddArtifacts":
            return grpc.stream_unary_rpc_method_handler(
                self._add, _request(method).FromString, _response(method).SerializeToString
            )
        if method in _ONE_TO_ONE:
            return grpc.unary_unary_rpc_method_handler(
                lambda request, context: self._one(method, request, context),
                _request(method).FromString,
                _response(method).SerializeToString,
            )
        return None

    def _forward(self, kind: Callable[..., Any], method: str) -> Any:
        return kind(f"{_SERVICE}{method}", _request(method).SerializeToString, _response(method).FromString)

    def _one(self, method: str, request: Any, context: grpc.ServicerContext) -> Any:
        asked, request.session_id = request.session_id, SESSION
        request.ClearField("client_observed_server_side_session_id")
        try:
            return self._answered(self._forward(self._channel.unary_unary, method)(request), asked)
        except grpc.RpcError as error:
            _fail(error, context)

    def _stream(self, method: str, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        asked, request.session_id = request.session_id, SESSION
        request.ClearField("client_observed_server_side_session_id")
        running, answers = self.running[asked], self._forward(self._channel.unary_stream, method)(request)
        is_query = method == "ExecutePlan" and request.plan.HasField("root")  # a command only names one
        running[request.operation_id] = request.SerializeToString() if is_query else b""
        try:
            for response in answers:
                yield self._answered(response, asked)
        except GeneratorExit:  # nobody listens any more, which ends no statement
            Thread(target=self._see_end, args=(answers, running, request.operation_id), daemon=True).start()
            raise
        except grpc.RpcError as error:
            running.pop(request.operation_id, None)
            _fail(error, context)
        running.pop(request.operation_id, None)

    def _see_end(self, answers: Iterator[Any], running: dict[str, bytes], operation: str) -> None:
        with suppress(grpc.RpcError):
            for _ in answers:
                pass
        running.pop(operation, None)

    def _interrupt(self, request: Any, _: grpc.ServicerContext) -> Any:
        """All that a session runs, one by one."""
        found = _response("Interrupt")(session_id=request.session_id)
        for operation in list(self.running[request.session_id]):
            one = _request("Interrupt")(session_id=SESSION, user_context=request.user_context, operation_id=operation)
            one.interrupt_type = one.INTERRUPT_TYPE_OPERATION_ID
            with suppress(grpc.RpcError):
                found.interrupted_ids.extend(self._forward(self._channel.unary_unary, "Interrupt")(one).interrupted_ids)
        return found

    def _answered(self, response: Any, asked: str) -> Any:
        response.session_id = asked
        self.sent += response.ByteSize()
        return response

    def _add(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        asked = list(requests)
        of = asked[0].session_id
        for request in asked:
            request.session_id = SESSION
            request.ClearField("client_observed_server_side_session_id")
        try:
            return self._answered(self._forward(self._channel.stream_unary, "AddArtifacts")(iter(asked)), of)
        except grpc.RpcError as error:
            _fail(error, context)


def _fail(error: Any, context: grpc.ServicerContext) -> None:
    context.set_trailing_metadata(error.trailing_metadata() or ())
    context.abort(error.code(), error.details())


def _serve(address: str) -> None:
    with grpc.insecure_channel(address.removeprefix("sc://"), options=_MOST) as channel:
        sessions = _OneSession(channel)
        server = grpc.server(ThreadPoolExecutor(8), [sessions], options=_MOST)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        print(f"sc://127.0.0.1:{port}", flush=True)
        for line in sys.stdin:
            of_sessions = [[*running.values()] for running in [*sessions.running.values()]]
            statements = [one for running in of_sessions for one in running if b"LIMIT 0" not in one]
            print(sessions.sent, sum(line.strip().encode() in one for one in statements), flush=True)
        server.stop(0)


if __name__ == "__main__":
    _serve(sys.argv[1])
