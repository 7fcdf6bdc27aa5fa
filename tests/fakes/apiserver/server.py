"""The fake API server: its thread, its sockets, its objects, and who is let in."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import tempfile
import threading
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from aiohttp import web

from tests.fakes.apiserver import certificates
from tests.fakes.apiserver.answerer import Answerer
from tests.fakes.apiserver.faults import Fault, Faults
from tests.fakes.apiserver.journal import Journal
from tests.fakes.apiserver.ports import free_ports
from tests.fakes.apiserver.storage import Key, Storage, Version
from tests.fakes.apiserver.streams import reset

ACTION_SECONDS = 10.0  # until what a test does to the server must have happened
_FLIPS: Mapping[str, Mapping[str, Any]] = {
    "headless": {"spec": {"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"], "externalName": None}},
    "external-name": {
        "spec": {"type": "ExternalName", "externalName": "www.example.org", "clusterIP": None, "clusterIPs": None}
    },
}


class FakeApiServer:
    """An API server on loopback, in a thread of its own; it may be used from any other.

    With `tls` it has a certificate of an authority of its own. `tokens` are those it lets in, None lets everyone in.
    Objects, versions and the port outlive `stop` and `start`.
    """

    def __init__(
        self,
        tls: bool = False,
        tokens: Iterable[str] | None = None,
        address: str = "127.0.0.1",
        bookmark_interval_seconds: float = 60.0,
        future_wait_seconds: float = 3.0,
    ) -> None:
        self.journal = Journal()
        self.faults = Faults(self._on_fault)
        self.storage = Storage(self._on_commit)
        self.tokens = None if tokens is None else set(tokens)
        self.denied: set[tuple[str, str]] = set()  # verb and resource, as RBAC names them, that are refused with 403
        self.address = address
        (self.port,) = free_ports(1, address)
        self._folder = tempfile.TemporaryDirectory(prefix="kdns-fake-apiserver-")
        self._context: ssl.SSLContext | None = None
        self._generation = 0  # of certificates
        self._authority: certificates.Certificate | None = None
        if tls:
            self.rotate_certificates()
        self._loop = asyncio.new_event_loop()
        self._listener: socket.socket | None = None
        self._jobs: set[asyncio.Task[None]] = set()
        self._answerer = Answerer(self, bookmark_interval_seconds, future_wait_seconds)
        self._server: web.Server | None = None
        self._thread = threading.Thread(target=self._run, name="fake API server", daemon=True)
        self._thread.start()
        self.start()

    @property
    def url(self) -> str:
        """Where it is reached."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{'https' if self._context else 'http'}://{host}:{self.port}"

    @property
    def ca_file(self) -> Path:
        """The certificate of its authority; only with TLS. The path stays when the authority is replaced."""
        return self._path / "ca.crt"

    @property
    def _path(self) -> Path:
        return Path(self._folder.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What is stored

    def put(self, *objects: Mapping[str, Any], key: Key | None = None) -> Version:
        """Create objects or replace them; returns the last one's version. With `key` it may be damaged."""
        return [self.storage.put(raw, key) for raw in objects][-1]

    def patch(self, kind: str, namespace: str, name: str, change: Mapping[str, Any]) -> Version:
        """Change an object by a JSON merge patch."""
        return self.storage.patch(Key(kind, namespace, name), change)

    def delete(self, kind: str, namespace: str, name: str) -> Version:
        """Delete an object."""
        return self.storage.delete(Key(kind, namespace, name))

    def compact(self) -> int:
        """Forget the versions that were."""
        return self.storage.compact()

    # Whether it is there

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._do(self._listen())

    def stop(self) -> None:
        """Close every connection and refuse new ones."""
        self._do(self._hang_up(listening=False))

    def cut_connections(self) -> None:
        """Reset every connection; new ones are welcome."""
        self._do(self._hang_up(listening=True))

    def close(self) -> None:
        """End for good."""
        self.faults.clear()
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._folder.cleanup()

    @property
    def open_watches(self) -> list[str]:
        """The kind of each open watch."""
        return [watch.call.kind for watch in tuple(self._answerer.watches)]

    # Who is let in

    def rotate_certificates(self, new_authority: bool = True) -> None:
        """Use a new certificate for new connections, of a new authority or of the same."""
        self._generation += 1
        if new_authority or self._authority is None:
            self._authority = certificates.make_authority(self._path, f"ca-{self._generation}")
            draft = self._path / "ca.crt.draft"
            draft.write_bytes(self._authority.certificate.read_bytes())
            os.replace(draft, self.ca_file)
        made = certificates.make_server_certificate(self._path, self._authority, f"server-{self._generation}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made.certificate, made.key)
        context.load_verify_locations(self._authority.certificate)
        context.verify_mode = ssl.CERT_OPTIONAL  # a client with a certificate needs no token
        context.set_alpn_protocols(["http/1.1"])
        self._context = context

    def client_certificate(self, user: str) -> certificates.Certificate:
        """A certificate that lets its holder in."""
        if self._authority is None:
            raise ValueError("a server without TLS asks for no certificates")
        return certificates.make_client_certificate(self._path, self._authority, user)

    def write_kubeconfig(self, path: Path, token: str = "") -> Path:
        """A kubeconfig that leads here."""
        cluster = {"server": self.url, **({"certificate-authority": str(self.ca_file)} if self._context else {})}
        found = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token} if token else {}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "test"}}],
            "current-context": "fake",
        }
        path.write_text(yaml.safe_dump(found))
        return path

    # In the thread of the server

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _do(self, job: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(job, self._loop).result(ACTION_SECONDS)

    async def _listen(self) -> None:
        if self._listener is not None:
            return
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        listener = socket.create_server((self.address, self.port), family=family, backlog=512)
        listener.setblocking(False)
        self._listener = listener
        self._server = web.Server(self._answerer.answer, handler_cancellation=True, access_log=None)
        self._keep(self._accept(listener, self._server))

    async def _hang_up(self, listening: bool) -> None:
        if not listening and self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for job in tuple(self._jobs):
            if not listening or job.get_name() != "accept":
                job.cancel()
        if self._server is not None:
            for handler in tuple(self._server.connections):
                if handler.transport is not None:
                    reset(handler.transport)
        jobs = [job for job in self._jobs if not listening or job.get_name() != "accept"]
        await asyncio.gather(*jobs, return_exceptions=True)
        if not listening and self._server is not None:
            await self._server.shutdown(0.0)

    def _keep(self, job: Coroutine[Any, Any, None], name: str = "accept") -> None:
        task = self._loop.create_task(job, name=name)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _accept(self, listener: socket.socket, server: web.Server) -> None:
        while listener is self._listener:
            try:
                connection, _ = await self._loop.sock_accept(listener)
            except OSError:
                return
            self._keep(self._welcome(connection, server), name="connection")

    async def _welcome(self, connection: socket.socket, server: web.Server) -> None:
        try:
            if self.faults.take("gap"):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.close()
                return
            if slow := self.faults.take("slow-handshake"):
                await asyncio.sleep(slow.parameters["seconds"])
            with suppress(OSError, ssl.SSLError):
                await self._loop.connect_accepted_socket(server, connection, ssl=self._context)
        except asyncio.CancelledError:
            connection.close()
            raise

    # What changes

    def _on_commit(self, version: Version) -> None:
        self.journal.commit(version)
        self._loop.call_soon_threadsafe(self._wake, version.key.kind)

    def _wake(self, kind: str = "") -> None:
        for watch in self._answerer.watches:
            if kind in ("", watch.call.kind):
                watch.changed.set()

    def _on_fault(self, fault: Fault, is_added: bool) -> None:
        """Do what a fault does at once, when it is added and when it is removed; wake whom it may concern."""
        match fault.name:
            case "gap" if is_added:
                self.cut_connections()
            case "gap" if fault.parameters["compact"]:
                self.compact()
            case "refused":
                (self.stop if is_added else self.start)()
            case "client-stopped":
                os.kill(fault.parameters["pid"], signal.SIGSTOP if is_added else signal.SIGCONT)
            case "rewind" | "token-rotated" | "certificate-rotated" | "flip" | "relist" if is_added:
                self._act(fault)
                self.faults.meet(fault)
        if not is_added:
            self._loop.call_soon_threadsafe(fault.ended.set)
        self._loop.call_soon_threadsafe(self._wake)

    def _act(self, fault: Fault) -> None:
        match fault.name:
            case "rewind":
                self.storage.restore(fault.parameters["to"])
                self.cut_connections()
            case "token-rotated":
                self.tokens = {fault.parameters["token"]}
            case "certificate-rotated":
                self.rotate_certificates(fault.how == "authority")
            case "flip":
                self._flip(Key("Service", fault.parameters["namespace"], fault.parameters["name"]), fault.how)
            case "relist":
                self.storage.put({"kind": "Namespace", "metadata": {"name": "relist"}})  # now every version is old
                self.compact()
                self.cut_connections()

    def _flip(self, key: Key, how: str) -> None:
        if how != "recreated":
            self.storage.patch(key, _FLIPS[how])
            return
        found = self.storage.get(key)
        if found is None:
            raise KeyError(key)
        self.storage.delete(key)
        metadata = {**found.raw["metadata"]}
        del metadata["uid"]
        self.storage.put({**found.raw, "metadata": metadata}, key)
