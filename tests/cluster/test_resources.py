"""Which lists a view depends on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kdns.cluster.listing import is_older
from kdns.cluster.resources import RUNNING_PODS, resources_of
from kdns.cluster.selectors import Selector
from kdns.cluster.view import PodMode, View
from kdns.dns import names

ZONE = names.from_labels([b"cluster", b"local"])
SET_ZONE = names.from_labels([b"clusterset", b"local"])
PLAIN = View((ZONE,))


def told(view: View) -> dict[str, dict[str, str]]:
    return {resource.path: resource.selection for resource in resources_of(view)}


def test_plain_view_needs_namespaces_services_and_slices_and_all_of_them() -> None:
    assert told(PLAIN) == {
        "/api/v1/namespaces": {},
        "/api/v1/services": {},
        "/apis/discovery.k8s.io/v1/endpointslices": {},
    }


def test_slices_are_not_asked_for_without_endpoints() -> None:
    assert list(told(replace(PLAIN, noendpoints=True))) == ["/api/v1/namespaces", "/api/v1/services"]


@pytest.mark.parametrize("mode", [PodMode.DISABLED, PodMode.INSECURE])
def test_pods_are_asked_for_only_when_they_are_verified(mode: PodMode) -> None:
    assert "/api/v1/pods" not in told(replace(PLAIN, pods=mode))
    assert told(replace(PLAIN, pods=PodMode.VERIFIED))["/api/v1/pods"] == {"fieldSelector": RUNNING_PODS}


def test_labels_select_services_slices_and_pods_and_namespace_labels_namespaces() -> None:
    view = replace(
        PLAIN,
        pods=PodMode.VERIFIED,
        labels=Selector.parse("app in (a,b)"),
        namespace_labels=Selector.parse("team=x"),
    )
    assert told(view) == {
        "/api/v1/namespaces": {"labelSelector": "team=x"},
        "/api/v1/services": {"labelSelector": "app in (a,b)"},
        "/apis/discovery.k8s.io/v1/endpointslices": {"labelSelector": "app in (a,b)"},
        "/api/v1/pods": {"labelSelector": "app in (a,b)", "fieldSelector": RUNNING_PODS},
    }


def test_multicluster_adds_imports_selected_like_namespaces() -> None:
    view = replace(PLAIN, multicluster=(SET_ZONE,), namespace_labels=Selector.parse("team=x"))
    path = "/apis/multicluster.x-k8s.io/v1alpha1/serviceimports"
    assert told(view)[path] == {"labelSelector": "team=x"}
    assert len(told(view)) == 4  # slices of imports are among all slices


def test_multicluster_without_endpoints_needs_the_slices_of_imports() -> None:
    view = replace(PLAIN, multicluster=(SET_ZONE,), noendpoints=True, labels=Selector.parse("a=b"))
    assert told(view)["/apis/discovery.k8s.io/v1/endpointslices"] == {
        "labelSelector": "a=b,multicluster.kubernetes.io/service-name"
    }


def test_resources_are_named_as_rbac_names_them() -> None:
    assert [resource.full_name for resource in resources_of(PLAIN)] == [
        "namespaces",
        "services",
        "endpointslices.discovery.k8s.io",
    ]


@pytest.mark.parametrize(
    ("version", "than", "expected"),
    [("9", "10", True), ("10", "9", False), ("10", "10", False), ("", "1", False), ("1", "", False), ("a", "b", False)],
)
def test_versions_compare_as_numbers_or_not_at_all(version: str, than: str, expected: bool) -> None:
    assert is_older(version, than) is expected
