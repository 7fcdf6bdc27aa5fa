"""How an API server is reached and what it is shown: read from files that others replace while kdns runs."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from kdns.cluster.access import ApiAccess
from kdns.errors import ClusterError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")  # where every Pod finds its own


@dataclass(frozen=True, slots=True, repr=False)
class Connection:
    """Where and as whom, as it now is. No repr: it would show credentials in a log."""

    url: str  # without a slash at its end; may have a path
    authority: str = ""  # PEM; empty: those the system trusts
    certificate: bytes = b""  # the client's, PEM, with its chain
    key: bytes = b""
    authorization: str = ""  # header
    server_name: str = ""  # expected in the server's certificate, where it is not the host
    proxy: str = ""
    is_verified: bool = True

    def ssl_context(self) -> ssl.SSLContext:
        """What TLS to the server needs of this. Raises ClusterError."""
        return self._ssl_context()

    def proxy_ssl_context(self) -> ssl.SSLContext:
        """What TLS to a proxy needs, which is trusted as the server is, and not shown who asks. Raises ClusterError."""
        return self._ssl_context(for_proxy=True)

    def _ssl_context(self, *, for_proxy: bool = False) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cadata=self.authority or None)
            # Authorities of clusters are made by installers; Go's TLS does not mind what strictness does.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            if not self.is_verified:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if self.certificate and not for_proxy:
                _load_certificate(context, self.certificate, self.key)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise ClusterError(f"{self.url}: CA, client certificate or key cannot be used: {error}") from error
        return context


class ConnectionSource(Protocol):
    """Where a connection is described."""

    async def load(self, is_refused: bool = False) -> Connection:
        """Read it as it now is. Raises ClusterError, which says what to change.

        `is_refused` says that the server did not take what was read last.
        """


class ServiceAccountSource:
    """The service account of the Pod kdns runs in."""

    def __init__(self, host: str, port: str, directory: Path = SERVICE_ACCOUNT) -> None:
        bracketed = f"[{host}]" if ":" in host else host
        self._url = f"https://{bracketed}:{port}"
        self._directory = directory

    async def load(self, is_refused: bool = False) -> Connection:
        """Read the token and the CA of the mount."""
        advice = "let the Pod mount its service account (automountServiceAccountToken)"
        return Connection(
            self._url,
            _read(self._directory / "ca.crt", advice).decode("ascii", "replace"),
            authorization=bearer(_read(self._directory / "token", advice)),
        )


class EndpointSource:
    """`endpoint URL` and `tls CERT KEY CA` of the directive."""

    def __init__(self, endpoint: str, tls: tuple[str, ...]) -> None:
        self._url = check_url(endpoint, "`endpoint`")
        self._tls = tls

    async def load(self, is_refused: bool = False) -> Connection:
        """Read the files."""
        if not self._tls:
            return Connection(self._url)
        certificate, key, authority = (_read(Path(name), "correct the option `tls`") for name in self._tls)
        return Connection(self._url, authority.decode("ascii", "replace"), certificate, key)


def simple_source(
    access: ApiAccess, environ: Mapping[str, str], service_account: Path = SERVICE_ACCOUNT
) -> ConnectionSource | None:
    """Where the connection is described, unless that is a kubeconfig. Raises ClusterError where it is nowhere."""
    if access.kubeconfig:
        return None
    if access.endpoint:
        return EndpointSource(access.endpoint, access.tls)
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "")
    if host and port:
        return ServiceAccountSource(host, port, service_account)
    if environ.get("KUBECONFIG"):
        return None
    raise ClusterError(
        "no API server: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; "
        "set `kubeconfig` or `endpoint` in the Corefile, or KUBECONFIG"
    )


def check_url(url: str, where: str) -> str:
    """A server's URL without a slash at its end. Raises ClusterError."""
    # client-go takes a bare host for one that speaks plain HTTP.
    whole = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(whole)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ClusterError(f"{where}: met {url!r}, expected the URL of an API server such as https://10.0.0.1:6443")
    return whole.rstrip("/")


def bearer(token: bytes | str) -> str:
    """The header for a token, which files often end with a newline. Raises ClusterError where it cannot be one."""
    text = (token.decode("latin-1") if isinstance(token, bytes) else token).strip()
    if not text or not text.isascii() or not text.isprintable():
        raise ClusterError("the token is empty or not a token")
    return f"Bearer {text}"


def _read(path: Path, advice: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ClusterError(f"{path}: {error.strerror or error}; {advice}") from error
    if not content.strip():
        raise ClusterError(f"{path}: the file is empty; {advice}")
    return content


def _load_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Give a key to OpenSSL, which takes it from a file only, without writing it to a disk."""
    with os.fdopen(os.memfd_create("kdns client certificate"), "wb") as file:
        file.write(certificate.rstrip() + b"\n" + key)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
