"""Whatever the compiled path counts of a query, the slow path would have counted."""

from __future__ import annotations

from collections import Counter

import dns.message
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kdns.dns.codes import RRType, rcode_text
from kdns.dns.query import parse_query
from kdns.hotpath.answer import Responder
from kdns.hotpath.meter import Meters
from kdns.hotpath.stream import StreamResponder
from kdns.metrics.meters import FIELDS, NUMBERS, RCODES, WRITERS
from tests.fakes.clusters import clusters
from tests.fakes.served import CLIENT, Served, serve
from tests.harness.examples import examples
from tests.hotpath.test_parity import queries, questions_of_the_table

COREFILE = (
    ".:53 {\n prometheus\n kubernetes cluster.local in-addr.arpa ip6.arpa {\n pods insecure\n ttl 30\n }\n"
    " loadbalance\n}\nexample.org {\n prometheus\n kubernetes example.org\n}\n10.in-addr.arpa {\n}\n"
)
# Names in their data, or of their additional records, may end in a pointer that the compiled path counts as it is.
APPROXIMATE = {RRType.SRV, RRType.NS, RRType.CNAME, RRType.PTR}
GENERATE = (Phase.explicit, Phase.reuse, Phase.generate)  # a cluster that fails takes minutes to shrink
TIMED = ("durations", "nanoseconds", "pending", "responses")  # the last are compared by label


class Paths:
    """Both paths, each counting for itself."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._registry = served.resolver.surroundings.metrics
        (listener,) = served.resolver.listeners
        assert listener.unserved is not None
        self._octets = bytearray(len(self._registry.meters.row(0)))
        meters = Meters(self._octets)
        responder = Responder(listener.routes(), meters=meters, dropped=listener.unserved.meter)
        responder.set_table(served.resolver.surroundings.current_table.table)
        self._stream = StreamResponder(responder)

    def fast(self, message: bytes) -> tuple[bytes, dict[str, Counter[object]]]:
        """The reply, empty for a miss, and what was counted, by field."""
        self._octets[:] = bytes(len(self._octets))
        _, reply, _ = self._stream.answer(len(message).to_bytes(2, "big") + message, ":" in CLIENT[0])
        counted = _by_field(memoryview(self._octets))
        counted["by_plugin"] = Counter()
        for at, count in counted.pop("responses").items():
            meter, place = divmod(at, NUMBERS)  # type: ignore[operator]
            counted["by_plugin"][meter, rcode_text(place % RCODES), WRITERS[place // RCODES]] = count
        return reply[2:], counted

    def slow(self, message: bytes) -> dict[str, Counter[object]]:
        row, responses = self._registry.meters.row(0), self._responses()
        row[:] = bytes(len(row))
        self._served.slow(message, stream=True)
        counted = _by_field(row)
        counted["by_plugin"] = self._responses() - responses
        del counted["responses"]
        return counted

    def _responses(self) -> Counter[object]:
        numbers = {(server, zone): at for at, (server, zone, _) in enumerate(self._registry.meters.read())}
        read = self._registry.read()["coredns_dns_responses_total"]
        return Counter({(numbers[labels[:2]], labels[3], labels[4]): int(n) for labels, (n,) in read.items()})


def _by_field(octets: memoryview) -> dict[str, Counter[object]]:
    """What is not 0, by field: the place relative to the field of the first meter."""
    found: dict[str, Counter[object]] = {name: Counter() for name in FIELDS}
    for at, number in enumerate(octets.cast("Q").tolist()):
        if number:
            name, field = next((n, f) for n, f in FIELDS.items() if 0 <= at % NUMBERS - f.at < f.count)
            found[name][at - field.at] = number
    return found


def has_alias(reply: bytes) -> bool:
    return any(rrset.rdtype == RRType.CNAME for rrset in dns.message.from_wire(reply).answer)


@given(cluster=clusters, messages=st.lists(queries(), min_size=20, max_size=40))
@settings(max_examples=examples(15), deadline=None, suppress_health_check=list(HealthCheck), phases=GENERATE)
def test_both_paths_count_alike(cluster, messages):
    served = serve(COREFILE, cluster)
    paths = Paths(served)
    for message in [*messages, *questions_of_the_table(served)]:
        reply, fast = paths.fast(message)
        if not reply:
            continue
        slow = paths.slow(message)
        assert sum(fast["durations"].values()) == sum(slow["durations"].values())
        query = parse_query(message)[1]
        assert query is not None
        uncompared = set(TIMED)
        if query.qtype in APPROXIMATE or has_alias(reply):
            uncompared |= {"response_sizes", "response_octets"}
        for name in fast.keys() - uncompared:
            assert fast[name] == slow[name], (name, query)
