"""The service account of a Pod, as a kubelet mounts it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class Mount:
    """The volume of a service account as a kubelet projects it: a link to a folder, swapped as a whole."""

    def __init__(self, folder: Path, ca_file: Path) -> None:
        self.path = folder
        self._ca = ca_file.read_text()
        self._written = 0
        folder.mkdir()
        for name in ("token", "ca.crt"):
            (folder / name).symlink_to(f"..data/{name}")

    def write(self, token: str) -> None:
        """Put a new token in place of the one there is."""
        self._written += 1
        target = self.path / f"..{self._written}"
        target.mkdir()
        (target / "token").write_text(token)
        (target / "ca.crt").write_text(self._ca)
        draft = self.path / "..data_tmp"
        draft.symlink_to(target.name)
        draft.rename(self.path / "..data")


def in_a_pod(mount: Path, command: Sequence[str]) -> tuple[str, ...]:
    """A command as in a container: its service account is where Pods have it. Needs root, as namespaces do."""
    at = "/var/run/secrets/kubernetes.io/serviceaccount"
    mounting = f'mount -t tmpfs none /var/run && mkdir -p {at} && mount --bind "$0" {at} && exec "$@"'
    return ("unshare", "--mount", "--", "sh", "-c", mounting, str(mount), *command)
