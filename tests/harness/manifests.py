"""A folder of Kubernetes manifests, one file for each object, as `--manifests` watches it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

KubernetesObject = Mapping[str, Any]


class ManifestFolder:
    """Objects as files; every change is one rename or removal, so that no reader meets half a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._draft = path.with_name(path.name + ".draft")  # beside the folder, on the same file system
        path.mkdir(parents=True, exist_ok=True)

    def apply(self, objects: Iterable[KubernetesObject]) -> None:
        """Create the objects, or replace those of the same kind, namespace and name."""
        for item in objects:
            # Any JSON is YAML, and it is written many times faster.
            self.write(self.file_of(item["kind"], item["metadata"]).name, json.dumps(item, indent=1))

    def delete(self, keys: Iterable[KubernetesObject]) -> None:
        """Delete the objects named by kind, namespace and name."""
        for key in keys:
            self.file_of(key["kind"], key).unlink()

    def clear(self) -> None:
        """Delete every manifest of the folder."""
        for path in self.path.glob("*.yaml"):
            path.unlink()

    def write(self, name: str, text: str) -> None:
        """Put a file of any content into the folder."""
        self._draft.write_text(text)
        os.replace(self._draft, self.path / name)

    def file_of(self, kind: str, metadata: KubernetesObject) -> Path:
        """The file that holds an object."""
        return self.path / f"{kind}.{metadata.get('namespace') or '_'}.{metadata['name']}.yaml"
