"""What is kept of a reply, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from kdns.dns.codes import Rcode
from kdns.dns.compression import Body
from kdns.dns.query import Query
from kdns.dns.reply import Reply
from kdns.hotpath.sections import inspect, with_ttl
from kdns.plugins.cache.options import Options

EMPTY_TTL = 5  # seconds: of a reply without records, of a delegation, and of errors that are not kept
ANSWERS, AUTHENTIC, RECURSION = 4, 2, 1  # of an entry's kind; ENTRY_ flags of hotpath/cache.pxd
# Their replies come from the response table, which changes when the cluster does.
TABLE_WRITERS = frozenset({"kubernetes", "k8s_external", "autopath"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """A reply as it goes to the client, and whether and as what it is kept."""

    body: Body  # all TTLs made one
    ttl: int  # seconds
    whole_size: int  # octets of the body with every name written out
    is_kept: bool = False
    is_sound: bool = False  # it answers the question, if only by saying that there is nothing
    is_denial: bool = False
    answers: bool = False  # it holds what was asked for


def judge(query: Query, reply: Reply, options: Options, now: float) -> Verdict | None:
    """What becomes of a reply; None where its sections are damaged. `now` is the time of day in seconds."""
    body, rcode = reply.body, reply.rcode
    count = body.answers + body.authorities + body.additionals
    contents = inspect(
        len(query.head), body.octets, body.answers, body.authorities, body.additionals, query.qtype,
        int(now) & 0xFFFFFFFF,
    )  # fmt: skip
    if contents is None:
        return None
    dnssec_ok = query.edns is not None and query.edns.dnssec_ok
    answers = is_denial = False
    is_kept = True
    ttl = contents.lowest_ttl if count else EMPTY_TTL
    if dnssec_ok and not contents.signatures_valid:
        is_kept, ttl = False, options.success.clamp(EMPTY_TTL)
    elif rcode == Rcode.NOERROR and body.answers:
        answers = contents.answers_type
        is_denial = not answers and contents.has_soa  # aliases that lead to a name without the type
        is_kept = answers or is_denial
        ttl = (options.denial if is_denial else options.success).clamp(ttl)
    elif contents.has_soa and (rcode == Rcode.NOERROR or (rcode == Rcode.NXDOMAIN and not body.answers)):
        is_denial = True
        ttl = options.denial.clamp(ttl)
    elif rcode in (Rcode.SERVFAIL, Rcode.NOTIMP):
        # What no plugin wrote is the server's own: the next query may fare better.
        is_denial, is_kept, ttl = True, reply.writer != "", int(options.servfail_seconds)
    elif rcode == Rcode.NOERROR:
        ttl = options.success.clamp(EMPTY_TTL if contents.has_ns else ttl)
    else:
        is_kept, ttl = False, options.success.clamp(EMPTY_TTL)
    is_sound = is_kept and rcode in (Rcode.NOERROR, Rcode.NXDOMAIN) and not reply.truncated
    is_kept = (
        is_kept
        and ttl > 0
        and not reply.truncated
        and reply.writer not in TABLE_WRITERS
        # What is no answer must not take the place of one that is preferred even when it has expired.
        and (answers or is_denial or not options.stale.prefer_positive)
        and (options.denial if is_denial else options.success).keeps(query.qname)
    )
    if count:
        body = body._replace(octets=with_ttl(body.octets, count, ttl))
    if contents.record_length and not body.record_length:
        body = body._replace(rotate_from=contents.rotate_from, record_length=contents.record_length)
    return Verdict(body, ttl, contents.whole_size, is_kept, is_sound, is_denial, answers)
