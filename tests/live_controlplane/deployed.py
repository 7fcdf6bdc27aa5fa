"""The rights that `deploy/` gives kdns, and directives that follow a control plane with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.controlplane.blocking import BlockingApi
from tests.controlplane.cluster import USER, ControlPlane
from tests.live.live_site import PLAIN_ZONES

MANIFEST = Path(__file__).parents[2] / "deploy" / "kdns.yaml"


def deployed(kind: str) -> dict[str, Any]:
    """The object of a kind in `deploy/`."""
    (found,) = [part for part in yaml.safe_load_all(MANIFEST.read_text()) if part and part["kind"] == kind]
    return dict(found)


def grant_deployed_role(api: BlockingApi) -> None:
    """Give the user of the tests exactly what `deploy/` gives."""
    role = deployed("ClusterRole")
    api.apply(role, bound_to(role["metadata"]["name"]))


def bound_to(role: str) -> dict[str, Any]:
    """A binding of the user of the tests to a role."""
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"{USER}-{role.replace(':', '-')}"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": USER}],
    }


def following(plane: ControlPlane, folder: Path, zones: str = PLAIN_ZONES, *options: str, token: str = "") -> str:
    """A `kubernetes` directive that follows a control plane, as the user of the tests."""
    kubeconfig = plane.write_kubeconfig(folder / "kubeconfig", token=token)
    lines = "".join(f"        {option}\n" for option in (f"kubeconfig {kubeconfig}", *options))
    return f"    kubernetes {zones} {{\n{lines}    }}\n"
