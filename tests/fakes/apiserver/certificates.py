"""Certificates for servers on loopback and their clients, made with the `openssl` program."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

DAYS = "2"  # longer than any test runs, shorter than anyone would rely on
API_SERVER = "IP:127.0.0.1,IP:::1,DNS:localhost,DNS:kubernetes.default.svc"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


def make_authority(folder: Path, name: str = "ca") -> Certificate:
    """A new certificate authority."""
    return _make(folder, name, "-subj", f"/CN=kdns test {name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign")


def make_server_certificate(
    folder: Path, authority: Certificate, name: str = "server", names: str = API_SERVER
) -> Certificate:
    """A certificate for these names, an API server's on loopback if none are given."""
    alternatives = f"subjectAltName={names}"
    return _make(folder, name, "-subj", f"/CN={name}", *_signed_by(authority, "serverAuth"), "-addext", alternatives)


def make_client_certificate(folder: Path, authority: Certificate, user: str, group: str = "") -> Certificate:
    """A certificate that lets its holder in as `user`, member of `group`."""
    subject = (f"/O={group}" if group else "") + f"/CN={user}"
    return _make(folder, user.replace(":", "-"), "-subj", subject, *_signed_by(authority, "clientAuth"))


def _signed_by(authority: Certificate, usage: str) -> tuple[str, ...]:
    signer = ("-CA", str(authority.certificate), "-CAkey", str(authority.key))
    return (*signer, "-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"extendedKeyUsage={usage}")


def _make(folder: Path, name: str, *arguments: str) -> Certificate:
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificate(folder / f"{name}.crt", folder / f"{name}.key")
    files = ("-out", str(made.certificate), "-keyout", str(made.key))
    _openssl("req", "-x509", *_KEY, *files, "-days", DAYS, *arguments)
    return made


def _openssl(*arguments: str) -> None:
    try:
        subprocess.run(("openssl", *arguments), check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise RuntimeError("openssl is missing: apt-get install openssl") from error
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"openssl {arguments[0]}: {error.stderr.strip()}") from error
