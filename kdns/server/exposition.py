"""Metrics as text: what all processes have counted, in the format Prometheus reads.

The families come from the registry's shared memory and from what only the supervisor knows. The text is written as Go's
library writes it (`le="1"`, not `"1.0"`; labels by name, `le` last), so that series of a mixed fleet are the same ones.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.samples import Sample

from kdns import COREDNS_VERSION, __version__
from kdns.dns.codes import rcode_text
from kdns.metrics import CounterTable, Family, Labels, Registry
from kdns.metrics.meters import DURATION_BUCKETS, FIELDS, PROTOCOLS, RCODES, SIZE_BUCKETS, WRITERS, labelled_requests
from kdns.plugins.metering import RESPONSES, RESPONSES_HELP, RESPONSES_LABELS

MILLION = 1e6  # from here on Go's shortest format has an exponent

Source = Callable[[], Iterable[Metric]]


class Exposition:
    """All metrics of a service. `sources` give what is not in the registry."""

    def __init__(self, registry: Registry, counters: CounterTable, sources: Sequence[Source] = ()) -> None:
        self._registry = registry
        self._counters = counters
        self._sources = sources

    def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return render(self.collect())

    def open_metrics(self) -> bytes:
        """Everything, in the OpenMetrics format."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        text: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        return text

    def collect(self) -> Iterator[Metric]:
        """Every family, by name; the method of prometheus_client's collectors."""
        found = [build_info(), *self._of_registry(), *self._own()]
        for source in self._sources:
            found.extend(source())
        yield from sorted(found, key=lambda metric: metric.name)

    def _of_registry(self) -> Iterator[Metric]:
        cells = self._registry.read()
        metered = _Metered()
        for server, zone, numbers in self._registry.meters.read():
            metered.add(server, zone, numbers)
        responses = cells.pop(RESPONSES, {})
        for labels, count in metered.responses.items():
            responses.setdefault(labels, [0.0])[0] += count
        if responses:
            yield _simple("counter", RESPONSES, RESPONSES_HELP, RESPONSES_LABELS, responses.items())
        yield from metered.metrics()
        for name, values in cells.items():
            family = self._registry.families[name]
            if not values and not family.labels:
                values = {(): [0.0] * family.values}
            if values:
                yield _of_family(family, values)

    def _own(self) -> Iterator[Metric]:
        outcomes = [((outcome,), [float(count)]) for outcome, count in self._counters.totals().items()]
        help_text = "Messages by what the compiled path made of them; misses went to the slow path."
        yield _simple("counter", "kdns_messages_total", help_text, ("outcome",), outcomes)
        help_text = "Values with new labels that found no room in a process's row of metrics."
        yield _simple("counter", "kdns_metrics_lost_total", help_text, (), [((), [float(self._registry.lost)])])


def build_info() -> Metric:
    """Whose behaviour this is, and what runs it."""
    labels = ("version", "revision", "goversion")
    values = (COREDNS_VERSION, f"kdns-{__version__}", "python" + sys.version.partition(" ")[0])
    help_text = "Always 1. The version is that of the CoreDNS whose behaviour kdns follows, the revision its own."
    return _simple("gauge", "coredns_build_info", help_text, labels, [(values, [1.0])])


def metric_of(kind: str, name: str, help_text: str, labels: Labels, values: Iterable[tuple[Labels, float]]) -> Metric:
    """A counter or gauge from (label values, value) pairs."""
    return _simple(kind, name, help_text, labels, ((given, [value]) for given, value in values))


# From numbers to families


class _Metered:
    """The meters of all zones as families: see kdns.metrics.meters."""

    def __init__(self) -> None:
        self.responses: dict[Labels, float] = {}
        self._requests: dict[Labels, list[float]] = {}
        self._dnssec_ok: dict[Labels, list[float]] = {}
        self._durations: dict[Labels, list[float]] = {}
        self._request_sizes: dict[Labels, list[float]] = {}
        self._response_sizes: dict[Labels, list[float]] = {}

    def add(self, server: str, zone: str, numbers: Sequence[int]) -> None:
        """Take the numbers of a zone."""
        place = (server, zone, "")
        fields = {name: numbers[field.at : field.at + field.count] for name, field in FIELDS.items()}
        for labels, count in zip(_REQUESTS, fields["requests"], strict=True):
            if count:
                self._requests[*place, *labels] = [float(count)]
        for index, count in enumerate(fields["responses"]):
            if count:
                self.responses[*place, rcode_text(index % RCODES), WRITERS[index // RCODES]] = float(count)
        if fields["dnssec_ok"][0]:
            self._dnssec_ok[place] = [float(fields["dnssec_ok"][0])]
        if any(fields["durations"]):
            self._durations[place] = [*map(float, fields["durations"]), fields["nanoseconds"][0] / 1e9]
        self._add_sizes(self._request_sizes, place, fields["request_sizes"], fields["request_octets"])
        self._add_sizes(self._response_sizes, place, fields["response_sizes"], fields["response_octets"])

    def metrics(self) -> Iterator[Metric]:
        """The families, those that have values."""
        place = ("server", "zone", "view")
        by_protocol = (*place, "proto")
        if self._requests:
            yield _simple(
                "counter",
                "coredns_dns_requests_total",
                "Queries by zone, transport, address family (1: IPv4, 2: IPv6) and type.",
                (*by_protocol, "family", "type"),
                self._requests.items(),
            )
        if self._dnssec_ok:
            yield _simple(
                "counter",
                "coredns_dns_do_requests_total",
                "Queries with the DNSSEC OK bit.",
                place,
                self._dnssec_ok.items(),
            )
        for name, help_text, labels, buckets, values in (
            (
                "coredns_dns_request_duration_seconds",
                "Time a query took; those answered from the table, the time of the batch they came in.",
                place,
                DURATION_BUCKETS,
                self._durations,
            ),
            (
                "coredns_dns_request_size_bytes",
                "Size of queries.",
                by_protocol,
                SIZE_BUCKETS,
                self._request_sizes,
            ),
            (
                "coredns_dns_response_size_bytes",
                "Size of responses, uncompressed, before any were cut to what the transport allows.",
                by_protocol,
                SIZE_BUCKETS,
                self._response_sizes,
            ),
        ):
            if values:
                yield _histogram(name, help_text, labels, buckets, values.items())

    @staticmethod
    def _add_sizes(
        found: dict[Labels, list[float]], place: Labels, counts: Sequence[int], octets: Sequence[int]
    ) -> None:
        buckets = len(SIZE_BUCKETS) + 1
        for index, protocol in enumerate(PROTOCOLS):
            of_protocol = counts[index * buckets : (index + 1) * buckets]
            if any(of_protocol):
                found[*place, protocol] = [*map(float, of_protocol), float(octets[index])]


_REQUESTS = labelled_requests()


def _of_family(family: Family, values: dict[Labels, list[float]]) -> Metric:
    if family.kind == "histogram":
        return _histogram(family.name, family.help, family.labels, family.buckets, values.items())
    return _simple(family.kind, family.name, family.help, family.labels, values.items())


def _simple(
    kind: str, name: str, help_text: str, labels: Labels, values: Iterable[tuple[Labels, Sequence[float]]]
) -> Metric:
    metric = Metric(name.removesuffix("_total") if kind == "counter" else name, help_text, kind)
    order = _order(labels)
    metric.samples = [Sample(name, _in_order(labels, given, order), value[0]) for given, value in values]
    return metric


def _histogram(
    name: str,
    help_text: str,
    labels: Labels,
    buckets: Sequence[float],
    values: Iterable[tuple[Labels, Sequence[float]]],
) -> Metric:
    """`values` are the counts of each bucket and +Inf, and the sum."""
    metric = Metric(name, help_text, "histogram")
    order = _order(labels)
    bounds = [*map(go_number, buckets), "+Inf"]
    for given, numbers in values:
        common = _in_order(labels, given, order)
        counts = list(accumulate(numbers[:-1]))
        metric.samples += [
            Sample(f"{name}_bucket", common | {"le": bound}, count) for bound, count in zip(bounds, counts, strict=True)
        ]
        metric.samples.append(Sample(f"{name}_sum", common, numbers[-1]))
        metric.samples.append(Sample(f"{name}_count", common, counts[-1]))
    return metric


def _order(labels: Labels) -> list[int]:
    return sorted(range(len(labels)), key=lambda index: labels[index])


def _in_order(labels: Labels, values: Labels, order: Sequence[int]) -> dict[str, str]:
    return {labels[index]: values[index] for index in order}


# From families to text


def render(metrics: Iterable[Metric]) -> bytes:
    """Families in Prometheus's text format, as Go writes it."""
    lines = []
    for metric in metrics:
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        help_text = metric.documentation.replace("\\", "\\\\").replace("\n", "\\n")
        lines.append(f"# HELP {name} {help_text}\n# TYPE {name} {metric.type}\n")
        for sample in metric.samples:
            value = go_number(sample.value)
            if not sample.labels:
                lines.append(f"{sample.name} {value}\n")
                continue
            labels = ",".join([f'{label}="{_escape(text)}"' for label, text in sample.labels.items()])
            lines.append(f"{sample.name}{{{labels}}} {value}\n")
    return "".join(lines).encode()


def go_number(value: float) -> str:
    """A number as Go's library writes it: shortest, and with an exponent from a million on (`1e+06`)."""
    if -MILLION < value < MILLION:
        whole = int(value)
        if value == whole:
            return str(whole)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    sign, digits, power = Decimal(repr(float(value))).normalize().as_tuple()
    assert isinstance(power, int)
    exponent = len(digits) - 1 + power
    if -4 <= exponent < 6:
        return repr(value)
    first, rest = digits[0], "".join(map(str, digits[1:]))
    return f"{'-' * sign}{first}{'.' * bool(rest)}{rest}e{exponent:+03d}"


def _escape(text: str) -> str:
    if "\\" in text or '"' in text or "\n" in text:
        return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return text
