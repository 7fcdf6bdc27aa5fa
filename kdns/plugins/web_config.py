"""The file of Prometheus's exporter-toolkit that says how an endpoint speaks TLS, as far as kdns follows it."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdns.errors import CorefileError

if TYPE_CHECKING:
    import ssl

MAX_FILE = 1 << 20  # octets; there is a page of it at most

# As the toolkit spells them, and as Python does.
_VERSIONS = {"TLS10": "TLSv1", "TLS11": "TLSv1_1", "TLS12": "TLSv1_2", "TLS13": "TLSv1_3"}
# Whether a client's certificate is wanted, and verified. Python asks for none without verifying it.
_CLIENT_AUTH = {
    "": "CERT_NONE",
    "NoClientCert": "CERT_NONE",
    "VerifyClientCertIfGiven": "CERT_OPTIONAL",
    "RequireAndVerifyClientCert": "CERT_REQUIRED",
}
_KEYS = ("cert_file", "key_file", "client_auth_type", "client_ca_file", "min_version")


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What an endpoint that speaks TLS needs."""

    certificate: str
    key: str
    client_authority: str  # a file; empty: no client is asked for a certificate
    client_auth: str  # the name of a ssl.VerifyMode
    min_version: str  # the name of a ssl.TLSVersion

    def ssl_context(self) -> ssl.SSLContext:
        """The context of connections; a certificate that is replaced is read with the next one.

        Raises OSError where a file cannot be used now; later, the one before goes on being shown.
        """
        current, stamp = self._load(), self._stamp()

        def on_hello(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
            nonlocal current, stamp
            if (found := self._stamp()) != stamp:
                with suppress(OSError):  # half of it is written yet
                    current, stamp = self._load(), found
            connection.context = current

        current.sni_callback = on_hello
        return current

    def _stamp(self) -> list[int]:
        """What changes when the certificate or its key is replaced."""
        with suppress(OSError):
            return [os.stat(file).st_mtime_ns for file in (self.certificate, self.key)]
        return []

    def _load(self) -> ssl.SSLContext:
        import ssl  # a megabyte, for those who speak TLS

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion[self.min_version]
        context.load_cert_chain(self.certificate, self.key)
        if self.client_authority:
            context.load_verify_locations(self.client_authority)
        context.verify_mode = ssl.VerifyMode[self.client_auth]
        return context


def read_web_config(path: str, folder: str) -> WebConfig:
    """Read the file; relative paths begin at `folder`, those within it at its own. Raises CorefileError."""
    file = Path(folder, path)
    try:
        text = file.read_bytes()
    except OSError as error:
        raise CorefileError(f"web config {path}: {error.strerror}") from error
    if len(text) > MAX_FILE:
        raise CorefileError(f"web config {path}: {len(text)} octets, expected {MAX_FILE} at most")
    import yaml  # a Corefile rarely names such a file

    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise CorefileError(f"web config {path}: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict) or set(found) != {"tls_server_config"}:
        keys = ", ".join(sorted(map(str, found))) if isinstance(found, dict) else "no mapping"
        raise CorefileError(f"web config {path}: {keys or 'nothing'}, expected tls_server_config alone")
    try:
        return _server_config(found["tls_server_config"], file.parent)
    except ValueError as error:
        raise CorefileError(f"web config {path}: tls_server_config: {error}") from error


def _server_config(found: Any, folder: Path) -> WebConfig:
    if not isinstance(found, dict):
        raise ValueError("not a mapping")
    for key, value in found.items():
        if key not in _KEYS:
            raise ValueError(f"{key}: not followed by kdns, which knows {', '.join(_KEYS)}")
        if not isinstance(value, str):
            raise ValueError(f"{key}: {value!r}, expected a text")
    auth, version = found.get("client_auth_type", ""), found.get("min_version", "TLS12")
    if auth not in _CLIENT_AUTH:
        raise ValueError(f"client_auth_type: {auth!r}, expected one of {', '.join(filter(None, _CLIENT_AUTH))}")
    if version not in _VERSIONS:
        raise ValueError(f"min_version: {version!r}, expected one of {', '.join(_VERSIONS)}")
    authority = found.get("client_ca_file", "")
    if authority and _CLIENT_AUTH[auth] == "CERT_NONE":
        raise ValueError("client_ca_file without a client_auth_type that asks for certificates")
    if not authority and _CLIENT_AUTH[auth] != "CERT_NONE":
        raise ValueError(f"client_auth_type {auth} without client_ca_file")
    for key in ("cert_file", "key_file"):
        if not found.get(key):
            raise ValueError(f"{key} is missing")
    return WebConfig(
        certificate=str(folder / found["cert_file"]),
        key=str(folder / found["key_file"]),
        client_authority=str(folder / authority) if authority else "",
        client_auth=_CLIENT_AUTH[auth],
        min_version=_VERSIONS[version],
    )
