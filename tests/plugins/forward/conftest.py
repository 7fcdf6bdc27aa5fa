"""Who upstreams over TLS and HTTPS are."""

from __future__ import annotations

import pytest

from tests.fakes.apiserver.certificates import Certificate, make_authority, make_server_certificate


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def certificate(authority: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_server_certificate(tmp_path_factory.mktemp("server"), authority)
