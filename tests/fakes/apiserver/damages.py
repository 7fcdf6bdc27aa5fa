"""Objects as careless producers and broken stores write them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

# Where an object is damaged, and what stands there instead. A path of several steps enters lists at their first item.
DAMAGES: Mapping[str, tuple[tuple[str, ...], Any]] = {
    "null-metadata": (("metadata",), None),
    "null-labels": (("metadata", "labels"), None),
    "number-name": (("metadata", "name"), 5),
    "null-spec": (("spec",), None),
    "null-service-ports": (("spec", "ports"), None),
    "text-service-port": (("spec", "ports", "0", "port"), "80"),
    "empty-cluster-ips": (("spec", "clusterIPs"), []),
    "blank-cluster-ip": (("spec", "clusterIPs"), [""]),
    "bad-cluster-ip": (("spec", "clusterIPs"), ["10.0.0.256"]),
    "null-endpoints": (("endpoints",), None),
    "null-endpoint": (("endpoints", "0"), None),
    "null-addresses": (("endpoints", "0", "addresses"), None),
    "bad-address": (("endpoints", "0", "addresses"), ["10.0.0.1/24"]),
    "null-conditions": (("endpoints", "0", "conditions"), None),
    "null-ready": (("endpoints", "0", "conditions"), {"ready": None}),
    "dotted-hostname": (("endpoints", "0", "hostname"), "a.b"),
    "utf8-hostname": (("endpoints", "0", "hostname"), "hôte"),
    "long-hostname": (("endpoints", "0", "hostname"), "h" * 64),
    "null-ports": (("ports",), None),
    "text-port": (("ports", "0", "port"), "80"),
    "duplicate-port-names": (("ports",), [{"name": "http", "port": 80}, {"name": "http", "port": 81}]),
    "fqdn": (("addressType",), "FQDN"),
    "unknown-field": (("unknown",), {"deep": [1, None, {"a": []}]}),
    "bad-pod-ip": (("status", "podIP"), "not an address"),
}


def damaged(raw: Any, name: str) -> Any:
    """A copy of an object with the damage of that name."""
    path, value = DAMAGES[name]
    made = copy.deepcopy(raw)
    holder = made
    for step in path[:-1]:
        holder = holder[int(step)] if isinstance(holder, list) else holder.setdefault(step, {})
        if not isinstance(holder, dict | list):
            raise ValueError(f"{name} cannot be done to {raw}: there is no {'.'.join(path)}")
    if isinstance(holder, list):
        holder[int(path[-1])] = value
    else:
        holder[path[-1]] = value
    return made
