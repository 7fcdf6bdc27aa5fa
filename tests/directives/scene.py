"""A server with everything a case puts around it: files, a cluster, upstreams."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.directives.cases import ETC, Surroundings
from tests.directives.grounds import Grounds, OwnGrounds
from tests.directives.upstreams import Upstreams
from tests.fakes.apiserver import FakeApiServer
from tests.harness.manifests import ManifestFolder
from tests.harness.server import Server

KubernetesObject = Mapping[str, Any]

WORKERS = 2
RESOLV_CONF = "nameserver 10.53.0.1\n"
HOSTS = "127.0.0.1 localhost\n"
TOKEN = "token-of-the-tests"
RUN = Path("/var/run")
_SERVICE_ACCOUNT = Path("secrets/kubernetes.io/serviceaccount")


class Scene:
    """Leaving the context ends the server and takes everything away again."""

    def __init__(self, around: Surroundings, grounds: Grounds, directory: Path, workers: int = WORKERS) -> None:
        self.grounds = grounds
        self._directory = directory
        self._etc = directory / ETC
        self._has_own_etc = bool(around.etc) or around.conf.startswith(ETC)
        self._opened = ExitStack()
        with self._opened as opened:
            for address in around.local_addresses:
                grounds.server.add_address(address)
            self.upstreams = self._open_upstreams(around)
            mounts = self._write_files(around)
            cluster = self._open_cluster(around)
            if around.is_in_cluster and isinstance(cluster, ApiCluster):
                mounts[os.path.realpath(RUN)] = cluster.write_service_account(directory / "run")
            self.cluster = cluster
            self.server = opened.enter_context(
                Server(
                    grounds.server,
                    directory,
                    None,
                    manifests=cluster.path if isinstance(cluster, FolderCluster) else None,
                    workers=workers,
                    arguments=[
                        "-conf",
                        f"/{around.conf}" if around.conf.startswith(ETC) else around.conf,
                        *around.arguments,
                    ],
                    environment={name: grounds.served(text) for name, text in around.environment.items()}
                    | (cluster.environment if cluster else {}),
                    files=mounts,
                )
            )
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def write(self, name: str, text: str | None) -> None:
        """Put a file where the server finds it, by one rename, or take it away."""
        path = self._directory / name
        if text is None:
            path.unlink()
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.draft")
        draft.write_text(self.grounds.server.with_own_ports(self.grounds.served(text)), newline="")
        draft.replace(path)

    def _open_upstreams(self, around: Surroundings) -> Upstreams:
        moved = {address: self.grounds.address(address) for address in around.upstreams}
        made = Upstreams(self.grounds.upstreams, around.upstreams, self._directory, self.grounds.upstream_port, moved)
        self._opened.callback(made.close)
        made.open()
        return made

    def _write_files(self, around: Surroundings) -> dict[str, Path]:
        """Write everything; what is to be seen in place of the machine's files."""
        mounts = {}
        if isinstance(self.grounds, OwnGrounds):
            mounts = self._write_etc(around)
        for name, text in around.files.items():
            self.write(name, text)
        for name, text in around.etc.items():
            self.write(f"{ETC}{name}", text)
        if around.authority_file is not None and self.upstreams.authority is not None:
            self.write(around.authority_file, self.upstreams.authority.read_text())
        self.write(around.conf, around.corefile)
        return mounts

    def _write_etc(self, around: Surroundings) -> dict[str, Path]:
        if self._has_own_etc:
            # Whatever programs need of the machine's stays. What may not be read here, the server may not read either.
            subprocess.run(("cp", "-a", "/etc", str(self._etc)), check=False, capture_output=True)
        self._etc.mkdir(exist_ok=True)
        for name, text in (("resolv.conf", around.resolv_conf or RESOLV_CONF), ("hosts", around.hosts or HOSTS)):
            (self._etc / name).unlink(missing_ok=True)
            self.write(f"{ETC}{name}", text)
        if self._has_own_etc:
            return {"/etc": self._etc}
        return {f"/etc/{name}": self._etc / name for name in ("resolv.conf", "hosts")}

    def _open_cluster(self, around: Surroundings) -> FolderCluster | ApiCluster | None:
        if not around.objects:
            return None
        if around.is_in_cluster:
            # Its thread begins in the place, and so do its sockets.
            api = self.grounds.server.run(lambda: FakeApiServer(tls=True, tokens=[TOKEN]))
            cluster: FolderCluster | ApiCluster = ApiCluster(self._opened.enter_context(api))
        else:
            cluster = FolderCluster(self._directory / "objects")
        cluster.apply(around.objects)
        return cluster


class FolderCluster(ManifestFolder):
    """A cluster in a folder the server watches."""

    environment: dict[str, str] = {}


class ApiCluster:
    """A cluster behind an API server, which a Pod's service account leads to."""

    def __init__(self, api: FakeApiServer) -> None:
        self._api = api
        self.environment = {"KUBERNETES_SERVICE_HOST": api.address, "KUBERNETES_SERVICE_PORT": str(api.port)}

    def apply(self, objects: Iterable[KubernetesObject]) -> None:
        """Create the objects, or replace those of the same kind, namespace and name."""
        self._api.put(*objects)

    def delete(self, keys: Sequence[KubernetesObject]) -> None:
        """Delete the objects named by kind, namespace and name."""
        for key in keys:
            self._api.delete(key["kind"], key.get("namespace", ""), key["name"])

    def write_service_account(self, directory: Path) -> Path:
        """Write what a Pod finds of its own below /var/run; the folder to be seen there."""
        account = directory / _SERVICE_ACCOUNT
        account.mkdir(parents=True)
        shutil.copy(self._api.ca_file, account / "ca.crt")
        (account / "token").write_text(TOKEN)
        (account / "namespace").write_text("kube-system")
        return directory
