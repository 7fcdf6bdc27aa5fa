"""The metrics of a server under test."""

from __future__ import annotations

import http.client

from tests.live.live_site import Site


def values_of(site: Site, port: int) -> dict[str, float]:
    """Each sample, by its name with its labels."""

    def get() -> str:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    found = {}
    for line in site.place.run(get).splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found
