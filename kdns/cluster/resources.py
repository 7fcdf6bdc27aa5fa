"""What a view has to be told about: the lists of the API it depends on, with their selectors."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from kdns.cluster.cuts import IMPORT_NAME_LABEL
from kdns.cluster.objects import Kind
from kdns.cluster.selectors import Operator, Requirement, Selector
from kdns.cluster.unlisted import Unlisted
from kdns.cluster.view import PodMode, View

# A Pod that has ended keeps its address in its status; another Pod may have it by now.
RUNNING_PODS = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown"

OF_KIND = {
    Kind.NAMESPACE: Unlisted.NAMESPACES,
    Kind.SERVICE: Unlisted.SERVICES,
    Kind.ENDPOINT_SLICE: Unlisted.ENDPOINT_SLICES,
    Kind.POD: Unlisted.PODS,
    Kind.SERVICE_IMPORT: Unlisted.SERVICE_IMPORTS,
}


@dataclass(frozen=True, slots=True)
class Resource:
    """One list of the API, and what depends on it."""

    kind: Kind
    plural: str
    group: str = ""  # of the API; empty: the core group
    version: str = "v1"
    label_selector: str = ""
    field_selector: str = ""

    @property
    def path(self) -> str:
        """The list over all namespaces."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/{self.plural}"

    def path_in(self, namespace: str) -> str:
        """The list of one namespace; of all where there is none."""
        root, _, plural = self.path.rpartition("/")
        return f"{root}/namespaces/{quote(namespace, safe='')}/{plural}" if namespace else self.path

    @property
    def selection(self) -> dict[str, str]:
        """The parameters that say which objects."""
        selectors = {"labelSelector": self.label_selector, "fieldSelector": self.field_selector}
        return {name: text for name, text in selectors.items() if text}

    @property
    def full_name(self) -> str:
        """The resource as RBAC and `kubectl auth can-i` name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def dependents(self) -> str:
        """Which names cannot be told without it."""
        return _DEPENDENTS[self.kind]


_DEPENDENTS = {
    Kind.NAMESPACE: "all names",
    Kind.SERVICE: "the names of Services",
    Kind.ENDPOINT_SLICE: "the names of headless Services and of endpoints",
    Kind.POD: "the names of Pods",
    Kind.SERVICE_IMPORT: "the names of ServiceImports",
}


def resources_of(view: View) -> tuple[Resource, ...]:
    """The lists a view depends on, and no others: each is a permission an operator must grant."""
    labels = "" if view.labels is None else str(view.labels)
    namespace_labels = "" if view.namespace_labels is None else str(view.namespace_labels)
    found = [
        Resource(Kind.NAMESPACE, "namespaces", label_selector=namespace_labels),
        Resource(Kind.SERVICE, "services", label_selector=labels),
    ]
    slices = _slice_selector(view)
    if slices is not None:
        found.append(
            Resource(Kind.ENDPOINT_SLICE, "endpointslices", "discovery.k8s.io", label_selector=str(slices))
        )  # fmt: skip
    if view.pods is PodMode.VERIFIED:
        found.append(Resource(Kind.POD, "pods", label_selector=labels, field_selector=RUNNING_PODS))
    if view.multicluster:
        # The selector of namespaces, not the one of Services (CoreDNS quirk).
        found.append(
            Resource(
                Kind.SERVICE_IMPORT,
                "serviceimports",
                "multicluster.x-k8s.io",
                "v1alpha1",
                label_selector=namespace_labels,
            )
        )
    return tuple(found)


def _slice_selector(view: View) -> Selector | None:
    """Which slices; None: none. Slices of ServiceImports are among all slices, so that one list holds both."""
    labels = view.labels or Selector()
    if not view.noendpoints:
        return labels
    if not view.multicluster:
        return None
    return Selector((*labels.requirements, Requirement(IMPORT_NAME_LABEL, Operator.EXISTS)))
