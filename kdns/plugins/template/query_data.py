"""What a template can know of a query: the fields of `.`."""

from __future__ import annotations

from collections.abc import Mapping

from kdns.dns import names
from kdns.dns.codes import Opcode, RRClass, RRType, class_text, type_text
from kdns.dns.query import Query
from kdns.plugins.plugin import Request
from kdns.plugins.template.language import Method, Struct

# No plugin here provides metadata: every label is empty, as it is to CoreDNS without `metadata`.
_META = Method(lambda label: "", 1)


class _Known(Struct):
    """A struct whose fields are all known."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = fields

    def field(self, name: str) -> object:
        """A field. Raises KeyError where there is none."""
        return self._fields[name]


class TemplateData(Struct):
    """The fields of `.` for one query that a template is for."""

    __slots__ = ("_fields", "_query", "labels", "zone")

    go_type = "*template.templateData"

    def __init__(
        self,
        request: Request,
        name: str,
        zone: str,
        regex: str,
        groups: tuple[str, ...],
        group_names: Mapping[str, int],
        labels: tuple[str, str],
    ) -> None:
        group = {str(index): text for index, text in enumerate(groups)}
        for group_name, index in group_names.items():
            group[group_name] = groups[index]
        self._query = request.query
        self.zone = zone
        self.labels = labels  # class and type
        self._fields: dict[str, object] = {
            "Zone": zone,
            "Name": name,
            "Regex": regex,
            "Match": groups,
            "Group": group,
            "Class": labels[0],
            "Type": labels[1],
            "Remote": request.client[0],
            "Meta": _META,
        }

    def field(self, name: str) -> object:
        """A field or method. Raises KeyError where there is none."""
        if name == "Message":
            return _message(self._query)
        return _question(self._query) if name == "Question" else self._fields[name]


def query_labels(query: Query, template_class: int, template_type: int) -> tuple[str, str]:
    """(class, type) as templates and metrics see them: the template's own for ANY, empty for what has no mnemonic."""
    qclass = template_class if query.qclass == RRClass.ANY else query.qclass
    qtype = template_type if query.qtype == RRType.ANY else query.qtype
    class_label, type_label = class_text(qclass), type_text(qtype)
    return (
        "" if class_label.startswith("CLASS") else class_label,
        "" if type_label.startswith("TYPE") else type_label,
    )


class _Question(_Known):
    __slots__ = ()
    go_type = "*dns.Question"


class _Message(_Known):
    __slots__ = ()
    go_type = "*dns.Msg"


def _question(query: Query) -> Struct:
    fields = {"Name": names.to_text(query.name), "Qtype": query.qtype, "Qclass": query.qclass}
    return _Question(fields)


def _message(query: Query) -> Struct:
    return _Message(
        {
            "Id": query.id,
            "Response": False,
            "Opcode": int(Opcode.QUERY),
            "Authoritative": False,
            "Truncated": False,
            "RecursionDesired": query.recursion_desired,
            "RecursionAvailable": False,
            "Zero": False,
            "AuthenticatedData": query.authentic_data,
            "CheckingDisabled": query.checking_disabled,
            "Rcode": 0,
            "Compress": False,
            "Question": [_question(query)],
            "Answer": [],
            "Ns": [],
            "Extra": [],
        },
    )
