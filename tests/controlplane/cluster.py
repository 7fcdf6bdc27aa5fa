"""A control plane as a process: its files, its ports, its flags, and its start and end."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.controlplane.api import Api
from tests.controlplane.etcd import Etcd
from tests.fakes.apiserver.certificates import make_authority, make_server_certificate
from tests.fakes.apiserver.ports import free_ports
from tests.harness.waiting import wait_until

LOOK_SECONDS = 0.1
READY_SECONDS = 90.0  # it takes 1.6 on an idle machine
END_SECONDS = 10.0
ADMIN = "admin"
USER = "kdns"  # may do nothing until a test grants it
ENDPOINT_SLICE_CONTROLLERS = ("endpointslice-controller", "endpointslice-mirroring-controller")
# What else it takes for workloads to roll out, for slices to go with their Service and namespaces with what is in them.
WORKLOAD_CONTROLLERS = (
    *ENDPOINT_SLICE_CONTROLLERS,
    "garbage-collector-controller",
    "namespace-controller",
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
)
SERVICE_RANGES = "10.96.0.0/12,fd00:96::/112"


class ControlPlane:
    """etcd, kube-apiserver and some controllers on loopback. Objects outlive `stop` and `start`; the port too."""

    def __init__(
        self,
        binary: Path,
        folder: Path,
        controllers: Sequence[str] = ENDPOINT_SLICE_CONTROLLERS,
        apiserver_flags: Sequence[str] = (),
        service_ranges: str = SERVICE_RANGES,
    ) -> None:
        self.tokens = {user: secrets.token_hex(16) for user in (ADMIN, USER)}
        self._binary = binary
        self._folder = folder
        self._controllers = controllers
        self._extra_flags = tuple(apiserver_flags)
        self._service_ranges = service_ranges
        self._process: subprocess.Popen[bytes] | None = None
        self.port, etcd_port = free_ports(2)
        self._etcd = Etcd(etcd_port)
        self._write_files()

    @property
    def url(self) -> str:
        """Where the API is reached."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> Path:
        """The authority of the server's certificate."""
        return self._folder / "ca.crt"

    @property
    def log(self) -> Path:
        """What the process says."""
        return self._folder / "log"

    @property
    def pid(self) -> int:
        """The process."""
        if self._process is None:
            raise RuntimeError("the control plane is not running")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    @property
    def resident_bytes(self) -> int:
        """The memory of the process."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def api(self, user: str = ADMIN) -> Api:
        """A session with the API."""
        return Api(self.url, self.ca_file, self.tokens[user])

    def write_kubeconfig(self, path: Path, user: str = USER, token: str = "") -> Path:
        """A kubeconfig of a user, or of whoever has the token."""
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
        found = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": token or self.tokens[user]}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "current-context": "test",
        }
        path.write_text(yaml.safe_dump(found))
        return path

    def start(self) -> float:
        """Start, and wait until it is ready; returns how many seconds that took."""
        started = time.monotonic()
        self._process = self._spawn()
        wait_until(self._is_ready, lambda: f"the API server is ready; its log ends:\n{self._log_end()}", READY_SECONDS)
        return time.monotonic() - started

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.write_kubeconfig(self._folder / "controllers.kubeconfig", ADMIN)  # the port may be another one now
        with self.log.open("ab") as log:
            return subprocess.Popen(self._command(), cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self) -> None:
        """End at once: every connection is reset. What etcd has written is in the kernel's hands and stays.

        SIGTERM is for `terminate`: kube-apiserver goes on for a minute where anyone still watches.
        """
        if self._process is not None:
            self._process.kill()
            self._process.wait(END_SECONDS)
            self._process = None

    def terminate(self) -> None:
        """Ask to end, as a kubelet would: no new connections, open watches go on for up to a minute. Then `stop`."""
        os.kill(self.pid, signal.SIGTERM)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def compact(self) -> int:
        """Let etcd forget every version but the newest; returns it.

        What the watch cache of a running API server remembers it goes on serving: `restart` makes it forget too.
        """
        return self._etcd.compact()

    def store(self, objects: Iterable[Mapping[str, Any]]) -> int:
        """Put objects straight into etcd, as they are; returns how many.

        No API server checks or completes them: they must be whole. It is some twenty times faster than creating them.
        """
        return self._etcd.store(objects)

    def forget(self, *prefixes: str, but: Collection[str] = ()) -> int:
        """Take objects out of etcd, those whose key below /registry begins so; returns how many.

        To the API server that is their deletion, but nobody is asked and nothing is waited for.
        """
        return self._etcd.forget(prefixes, but)

    def save(self, name: str) -> None:
        """Copy what etcd has, while it is stopped."""
        shutil.copytree(self._folder / "etcd", self._folder / name)

    def restore(self, name: str) -> None:
        """Go back to a copy, while it is stopped: versions given since are given a second time."""
        shutil.rmtree(self._folder / "etcd")
        shutil.copytree(self._folder / name, self._folder / "etcd")

    def _is_ready(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(f"the control plane ended with status {self._process.returncode}: {self._log_end()}")
        request = urllib.request.Request(
            f"{self.url}/readyz", headers={"Authorization": f"Bearer {self.tokens[ADMIN]}"}
        )
        context = ssl.create_default_context(cafile=self.ca_file)
        with suppress(OSError, urllib.error.URLError), urllib.request.urlopen(request, context=context, timeout=5):
            return True
        time.sleep(LOOK_SECONDS)  # each look is a TLS handshake, which the start can do without
        return False

    def _log_end(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])

    def _write_files(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        make_server_certificate(self._folder, make_authority(self._folder), "apiserver")
        make_authority(self._folder, "service-accounts")  # signs tokens; its public half is read from the certificate
        groups = {ADMIN: "system:masters"}
        lines = [f'{token},{user},{user},"{groups.get(user, "")}"\n' for user, token in self.tokens.items()]
        (self._folder / "tokens.csv").write_text("".join(lines))

    def _command(self) -> list[str]:
        apiserver = (
            "--advertise-address=127.0.0.1",
            "--tls-cert-file=apiserver.crt",
            "--tls-private-key-file=apiserver.key",
            "--cert-dir=certificates",
            "--client-ca-file=ca.crt",
            "--token-auth-file=tokens.csv",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",  # Pods need no account of theirs to exist
            "--endpoint-reconciler-type=none",  # nor does the Service `kubernetes` need endpoints
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=service-accounts.crt",
            "--service-account-signing-key-file=service-accounts.key",
            f"--service-cluster-ip-range={self._service_ranges}",
            *self._extra_flags,
        )
        controllers = (
            "--kubeconfig=controllers.kubeconfig",
            f"--controllers={','.join(self._controllers)}",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=1000",
            "--kube-api-burst=1000",
            "--concurrent-service-endpoint-syncs=20",
        )
        addresses = (f"127.0.0.1:{self._etcd.port}", f"127.0.0.1:{self.port}")
        return [str(self._binary), "etcd", *addresses, "--", *apiserver, "--", *controllers]
