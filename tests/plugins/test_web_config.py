"""The exporter-toolkit's web config, as far as it is followed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.errors import CorefileError
from kdns.plugins.web_config import WebConfig, read_web_config


def read(folder: Path, text: str) -> WebConfig:
    (folder / "web.yaml").write_text(text)
    return read_web_config("web.yaml", str(folder))


def test_paths_begin_where_the_file_is(tmp_path: Path) -> None:
    found = read(tmp_path, "tls_server_config:\n  cert_file: tls.crt\n  key_file: /etc/tls.key\n")
    assert found == WebConfig(str(tmp_path / "tls.crt"), "/etc/tls.key", "", "CERT_NONE", "TLSv1_2")


def test_clients_may_be_asked_for_certificates(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequireAndVerifyClientCert, "
        "client_ca_file: c, min_version: TLS13}",
    )
    assert (found.client_auth, found.min_version) == ("CERT_REQUIRED", "TLSv1_3")
    assert found.client_authority == str(tmp_path / "c")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no mapping, expected tls_server_config alone"),
        ("[]", "no mapping, expected tls_server_config alone"),
        ("{}", "nothing, expected tls_server_config alone"),
        ("basic_auth_users: {}\ntls_server_config: {}", "basic_auth_users, tls_server_config, expected"),
        ("tls_server_config: 5", "tls_server_config: not a mapping"),
        ("tls_server_config: {cert_file: a}", "tls_server_config: key_file is missing"),
        ("tls_server_config: {cert_file: [a]}", "tls_server_config: cert_file: ['a'], expected a text"),
        ("tls_server_config: {ciphers: a}", "tls_server_config: ciphers: not followed by kdns"),
        ("tls_server_config: {client_auth_type: Any}", "tls_server_config: client_auth_type: 'Any', expected one of"),
        ("tls_server_config: {min_version: SSL3}", "tls_server_config: min_version: 'SSL3', expected one of TLS10"),
        ("tls_server_config: {client_ca_file: a}", "client_ca_file without a client_auth_type"),
        ("tls_server_config: {client_auth_type: VerifyClientCertIfGiven}", "without client_ca_file"),
        ("{", "while parsing"),
    ],
)  # fmt: skip
def test_what_is_not_followed_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(CorefileError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith("web config web.yaml: ")
    assert problem in str(caught.value)


@given(text=st.text(max_size=60))
def test_any_text_is_a_config_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(text.encode("utf-8", "surrogateescape") if text.isprintable() else text.encode("utf-8", "replace"))
    with pytest.raises(CorefileError):
        read_web_config(str(file), "")
