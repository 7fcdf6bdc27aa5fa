"""A Kubernetes API server that lies on demand, and remembers what it said.

    with FakeApiServer(tls=True, tokens=["secret"]) as server:
        server.put({"kind": "Service", "metadata": {"name": "web", "namespace": "shop"}, "spec": {...}})
        fault = server.faults.add("watch-gone", kind="Service", times=2, how="status")
        ...
        fault.wait_met(2)

It serves namespaces, services, pods, endpointslices and serviceimports as kube-apiserver does: lists (whole from the
watch cache at resourceVersion "0", in pages from a version, exact or not older than one), watches (from a version, or
with the initial state, bookmarks and the initial-events-end bookmark), single objects, metadata only where asked for,
label and field selectors, and the failures that go with them. `server.journal` holds every version of every object and
when it was told; `oracle.Oracle` decides from it whether a DNS reply is right.

`server.faults.add(name, kind="", verb="", times=None, **parameters)` lets a fault happen, to one kind (`Service`) and
verb (`get`, `list`, `watch`) or to all, `times` times or until `remove`. Faults of a stream strike when `after` events
have been sent on it; open streams too. The defaults of the parameters come first.

    no.     name                 what happens
    1 23 28 held                 requests get no answer until it is removed
    2       watch-list-missing   how=refused: 422; ignored: a plain watch; endless: no bookmark ends them
    3       continue-expired     page=2: the continue token of that page has expired (410)
    4       list-gone            a list from a version gets 410
    4       version-too-large    a list from a version gets 504; how=cause|message: machine-readable or not
    5       watch-gone           410; how=event: in a stream; status: as HTTP status; bare: in a stream, without a code
    6       watch-end            the stream ends, cleanly
    7       short-watch          the stream ends as soon as it is opened
    8       cut                  the stream breaks in half a line; how=reset|half-line|chunk|tls-alert
    9       stall                the stream goes silent, other requests are answered
    9       frozen               streams and requests get nothing, connections are accepted
    10      bookmark             a bookmark comes between events; how=plain|bare|null: without version, without metadata
    11      mistyped             how=duplicate|added-known|modified-unknown|deleted-unknown
    12      replay               a change is followed by the version before it, and then comes again
    13 14   gap                  every connection is reset until it is removed; compact=True: then all versions are old
    13 29   emptied-list         kept=0: a list has only that many of its objects
    14      stale-list           behind=1: the watch cache lags by that many versions
    15      rewind               to=VERSION: everything is as it was then, and counts on from there
    16      compaction           page=1: all is compacted while that page is served
    17 27   refused              connections are refused until it is removed
    18      throttled            429; retry_after="1": the header, None for none
    19      status               code=500, how=status|html|empty: the body
    20      wrong-answer         how=redirect|gzip|content-type|table
    21      token-rotated        token="": the only one let in from now on
    22      certificate-rotated  how=authority|certificate: a new authority, or a new certificate of the same
    23      slow                 bytes_per_second=1024: bodies and streams trickle
    23      slow-handshake       seconds=2.0: so long nothing reads what a new connection sends
    24      huge                 octets=1572864, name="": annotations of that size on objects (of that name)
    25      malformed            damage="null-metadata", name="": what `damages.DAMAGES` lists, done to objects sent
    26      flip                 namespace, name: a Service; how=headless|external-name|recreated
    29      relist               everything is compacted and every connection reset: whoever watches must list again
    30      poison               how=null-object|no-type|not-an-object|not-json|nested: a line no server sends
    31      client-stopped       pid=: SIGSTOP, and SIGCONT when it is removed
    32                           `refused` or `status` for everyone; `journal.requests` tells who asked how often

The numbers are those of the faults a follower of the API must survive. Slow name resolution and clocks that jump are
not the server's to inject.
"""

from tests.fakes.apiserver.server import FakeApiServer
from tests.fakes.apiserver.storage import Key

__all__ = ["FakeApiServer", "Key"]
