"""A kdns that follows a real control plane, on the loopback of the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.harness.places import Loopback
from tests.harness.server import KDNS, Server
from tests.live.live_site import Site


class PlaneSite(Site):
    """A site whose servers may run other commands than kdns, in another environment."""

    def start_command(
        self,
        corefile: str,
        *,
        command: Sequence[str] = KDNS,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        workers: int | None = 1,
        folder: str = "server",
    ) -> Server:
        """Start a server that the site's questions go to from now on."""
        made = Server(
            self.place,
            self.directory / folder,
            corefile,
            workers=workers,
            arguments=arguments,
            environment=environment,
            command=command,
        )
        self._server = self._opened.enter_context(made)
        return made

    def end_server(self) -> None:
        """End the server in peace."""
        self.server.stop()
        self.server.wait_gone()


@contextmanager
def open_plane_site(directory: Path) -> Iterator[PlaneSite]:
    """A site that leaves nothing behind."""
    with ExitStack() as opened:
        place = Loopback()
        opened.callback(place.close)
        yield PlaneSite(place, directory, opened)
