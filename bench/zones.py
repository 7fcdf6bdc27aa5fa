"""The generated cluster as zone files, and its addresses as a hosts file, for servers that read nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bench.cluster import REVERSE_ZONE, ZONE, Cluster
from bench.records import TTL, Record, forward_records, reverse_records


def write_zones(cluster: Cluster, folder: Path) -> dict[str, Path]:
    """Write a zone file for each zone into `folder`; returns their paths by zone."""
    folder.mkdir(parents=True, exist_ok=True)
    services = cluster.services
    return {
        ZONE: _write(folder, ZONE, (record for service in services for record in forward_records(service))),
        REVERSE_ZONE: _write(
            folder, REVERSE_ZONE, (record for service in services for record in reverse_records(service))
        ),
    }


def write_hosts(cluster: Cluster, path: Path) -> Path:
    """Write every address of the cluster with its name, as /etc/hosts has them."""
    with path.open("w", encoding="ascii") as file:
        for service in cluster.services:
            records = (record for record in forward_records(service) if record.type == "A")
            file.writelines(f"{record.rdata} {record.owner.rstrip('.')}\n" for record in records)
    return path


def _write(folder: Path, zone: str, records: Iterable[Record]) -> Path:
    path = folder / f"{zone}zone"
    with path.open("w", encoding="ascii") as file:
        file.write(f"$TTL {TTL}\n")
        file.write(f"{zone} SOA ns.dns.{zone} hostmaster.{zone} 1 7200 1800 86400 {TTL}\n")
        file.write(f"{zone} NS ns.dns.{zone}\nns.dns.{zone} A 127.0.0.1\n")
        file.writelines(f"{record.owner} {record.type} {record.rdata}\n" for record in records)
    return path
