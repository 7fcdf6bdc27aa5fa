"""Which part of the fake API server answers a request, and what may come in its place."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.fakes.apiserver.calls import Call, parse_call, verb_of
from tests.fakes.apiserver.journal import RequestRecord
from tests.fakes.apiserver.lists import Lister
from tests.fakes.apiserver.resources import Target, parse_path
from tests.fakes.apiserver.statuses import Refused, failure
from tests.fakes.apiserver.streams import Stream
from tests.fakes.apiserver.watches import Watch

if TYPE_CHECKING:
    from tests.fakes.apiserver.server import FakeApiServer


class Answerer:
    """Answers requests, each as a task of the server's loop; `watches` are those open."""

    def __init__(self, server: FakeApiServer, bookmark_interval_seconds: float, future_wait_seconds: float) -> None:
        self.watches: set[Watch] = set()
        self._server = server
        self._lister = Lister(server.storage, server.journal, server.faults, future_wait_seconds)
        self._bookmark_interval_seconds = bookmark_interval_seconds
        self._future_wait_seconds = future_wait_seconds

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        target = parse_path(request.path)
        if target is None:
            return _status(failure(404, f"the server could not find the requested resource: {request.path}"))
        verb, kind = verb_of(target, request.query), target.resource.kind
        self._server.journal.requests.append(
            RequestRecord(time.monotonic(), request.headers.get("User-Agent", ""), verb, kind, request.query_string)
        )
        for name in ("frozen", "held"):
            while fault := self._server.faults.take(name, kind, verb):
                await fault.ended.wait()
        try:
            self._let_in(request, target, verb)
            answered = await self._disturb(request, verb, kind)
            if answered is not None:
                return answered
            return await self._serve(request, parse_call(target, request))
        except Refused as refused:
            return _status(refused.status, refused.headers)

    def _let_in(self, request: web.BaseRequest, target: Target, verb: str) -> None:
        opened = request.transport.get_extra_info("ssl_object") if request.transport else None
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if (
            self._server.tokens is not None
            and token not in self._server.tokens
            and not (opened and opened.getpeercert())
        ):
            raise Refused(failure(401, "Unauthorized"))
        if (verb, target.resource.name) in self._server.denied:
            group = target.resource.group
            message = (
                f'{target.resource.name} is forbidden: User "test" cannot {verb} resource "{target.resource.name}" '
                f'in API group "{group}" at the cluster scope'
            )
            raise Refused(failure(403, message, details={"group": group, "kind": target.resource.name}))

    async def _disturb(self, request: web.BaseRequest, verb: str, kind: str) -> web.StreamResponse | None:
        """What comes in place of an answer, where a fault says so."""
        if fault := self._server.faults.take("throttled", kind, verb):
            after = fault.parameters["retry_after"]
            headers = {} if after is None else {"Retry-After": after}
            return _status(failure(429, "Too many requests, please try again later."), headers)
        if fault := self._server.faults.take("status", kind, verb):
            code = fault.parameters["code"]
            if fault.how == "status":
                return _status(failure(code, f"fault {code}"))
            text = "<html><body><h1>no</h1></body></html>" if fault.how == "html" else ""
            return web.Response(status=code, text=text, content_type="text/html")
        if fault := self._server.faults.take("wrong-answer", kind, verb):
            if fault.how == "redirect":
                return web.Response(status=302, headers={"Location": f"{self._server.url}/elsewhere"})
            if fault.how == "table":
                table = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": "1"}}
                return web.json_response({**table, "columnDefinitions": [], "rows": []})
            body = b'{"kind":"List","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}'
            if fault.how == "gzip":
                zipped = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
                return web.Response(body=gzip.compress(body), headers=zipped)
            return web.Response(body=body, content_type="application/vnd.kubernetes.protobuf")
        return None

    async def _serve(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        stream = Stream(request, call.kind, self._server.faults)
        if call.verb != "watch":
            body = await (self._lister.get(call) if call.verb == "get" else self._lister.list_objects(call))
            response = await stream.open()
            await stream.write(body)
            await response.write_eof()
            return response
        server = self._server
        watch = Watch(
            call,
            server.storage,
            server.journal,
            server.faults,
            self._bookmark_interval_seconds,
            self._future_wait_seconds,
        )
        self.watches.add(watch)
        try:
            await watch.serve(stream)
            return await stream.open()
        except ConnectionError:
            return await stream.abandon()
        finally:
            self.watches.discard(watch)


def _status(status: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status["code"], text=json.dumps(status), content_type="application/json", headers=dict(headers or {})
    )
