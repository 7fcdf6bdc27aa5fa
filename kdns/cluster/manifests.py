"""Manifests in place of an API server: `--manifests PATH`, a file, a folder or `-`.

Files hold objects, the last file by name that holds an object is the one that counts, and what counts now against what
counted before gives the events. A changed file alone is read again. What cannot be read, or is damaged, is reported
and changes nothing.

Manifests often name namespaces without containing them: `kubectl get -n shop -o yaml` prints none. As long as no
manifest holds a Namespace, every namespace that is used exists. Once there is one, only those in manifests do.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

from kdns.cluster.manifest_files import ManifestFiles
from kdns.cluster.manifest_objects import EVERYTHING, NAMESPACE_NAME_LABEL, Held, Key, read_objects
from kdns.cluster.objects import EndpointSlice, Event, Kind, Namespace
from kdns.cluster.selection import EndpointSelection
from kdns.cluster.view import Needs
from kdns.cluster.workloads import SelectablePod, SelectingService
from kdns.errors import ManifestError
from kdns.log import plugin_logger

POLL_SECONDS = 0.25  # between looks at a folder: what an edit may wait, against a few hundred stat calls a second
SETTLE_SECONDS = 0.05  # until the look that confirms a change

Report = Callable[[str], None]


class ManifestSource:
    """Events from manifests: `load` once, then `watch`, or `poll` where the caller keeps the time.

    What `needs` does not ask for is left out of the objects.
    """

    def __init__(self, path: str, report: Report | None = None, *, needs: Needs = EVERYTHING) -> None:
        self._needs = needs
        self._files = ManifestFiles(path)
        self._objects = _ObjectsOfFiles()
        self._log = plugin_logger("kubernetes")
        self._report: Report = report or self._log.warning
        self._trouble = ""  # with the path as a whole, and how often it was met in a row
        self._trouble_count = 0

    @property
    def is_settling(self) -> bool:
        """Whether the last `poll` saw a change that the next one may confirm."""
        return self._files.is_settling

    def load(self) -> list[Event]:
        """Everything the manifests hold. Raises ManifestError where there is nothing that can be read."""
        failures = []
        names = self._files.first_names()
        for name in names:
            try:
                self._read(name)
            except ManifestError as error:
                failures.append(str(error))
        if len(failures) == len(names):
            raise ManifestError(failures[0])
        for failure in failures:
            self._report(failure)
        events = self._take_events()
        if self._objects.implied_namespaces:
            self._log.info("No Namespace among the manifests: every namespace they use exists")
        return events

    def poll(self) -> list[Event]:
        """Look for changes and take in those that are settled; what has changed since the last call."""
        try:
            names = self._files.changed_names()
        except ManifestError as error:
            self._note_trouble(str(error))
            return []
        self._note_trouble("")
        for name in names:
            if not self._files.is_there(name):
                self._objects.replace(self._files.full_path(name), {})
                continue
            try:
                self._read(name)
            except ManifestError as error:
                self._report(f"{error}; what it held before goes on being served")
        return self._take_events()

    async def watch(self, on_events: Callable[[list[Event]], None]) -> None:
        """Call `on_events` with what changes, until cancelled; return at once where nothing can change."""
        while not self._files.is_stream:
            await asyncio.sleep(SETTLE_SECONDS if self.is_settling else POLL_SECONDS)
            events = await asyncio.to_thread(self.poll)
            if events:
                on_events(events)

    def _read(self, name: str) -> None:
        path = self._files.full_path(name)
        try:
            text = self._files.read(name)
            content = read_objects(text, name.endswith(".json"), self._objects.of_file(path), self._needs)
        except ManifestError as error:
            raise ManifestError(f"{path}: {error}") from error
        for problem in content.problems:
            self._report(f"{path}: {problem}")
        if content.ignored:
            self._log.debug("%s: %d objects of kinds without a part in DNS ignored", path, content.ignored)
        self._objects.replace(path, content.objects)

    def _take_events(self) -> list[Event]:
        events = self._objects.take_events()
        for problem in self._objects.take_problems():
            self._report(problem)
        return events

    def _note_trouble(self, trouble: str) -> None:
        """Report trouble with the path once, and only when a second look meets it too: files are replaced in steps."""
        self._trouble_count = self._trouble_count + 1 if trouble == self._trouble else 1
        self._trouble = trouble
        if trouble and self._trouble_count == 2:
            self._report(f"{trouble}; what was read before goes on being served")


class _ObjectsOfFiles:
    """The objects of all files, which of them count, and what that makes of Services with selectors and namespaces."""

    def __init__(self) -> None:
        self._files: dict[str, dict[Key, Held]] = {}
        self._holders: dict[Key, set[str]] = {}
        self._counting: dict[Key, Held] = {}
        self._touched: dict[Key, None] = {}
        self._selection = EndpointSelection()
        self._used_namespaces: Counter[str] = Counter()
        self._declared_namespaces = 0
        self.implied_namespaces: frozenset[str] = frozenset()
        self._problems: list[str] = []
        self._told_repeated: set[tuple[Key, str, str]] = set()

    def of_file(self, path: str) -> Mapping[Key, Held]:
        """What a file held when it was last read."""
        return self._files.get(path, {})

    def replace(self, path: str, objects: dict[Key, Held]) -> None:
        """Note what a file holds now: nothing if it is gone."""
        before = self._files.pop(path, {})
        if objects:
            self._files[path] = objects
        for key in before.keys() - objects.keys():
            self._holders[key].discard(path)
        for key in objects:
            self._holders.setdefault(key, set()).add(path)
        self._touched.update(dict.fromkeys(before))
        self._touched.update(dict.fromkeys(objects))

    def take_problems(self) -> list[str]:
        """Objects found in two files, each pair of files once."""
        problems, self._problems = self._problems, []
        return problems

    def take_events(self) -> list[Event]:
        """What changed since the last call: first what is gone, then namespaces, then the rest."""
        events: list[Event] = []
        for key in self._touched:
            old, new = self._counting.get(key), self._choose(key)
            if new == old:
                continue
            if new is None:
                del self._counting[key]
            else:
                self._counting[key] = new
            events += _difference(key, old, new)
            self._select(key, old, new)
            self._count_namespaces(key, old, new)
        self._touched.clear()
        events += self._selection.take_events()
        events += self._imply_namespaces(events)
        events.sort(key=lambda event: 0 if event.object is None else 1 if event.kind is Kind.NAMESPACE else 2)
        return events

    def _choose(self, key: Key) -> Held | None:
        paths = sorted(self._holders[key])
        if not paths:
            del self._holders[key]
            return None
        if len(paths) > 1 and (key, paths[-2], paths[-1]) not in self._told_repeated:
            self._told_repeated.add((key, paths[-2], paths[-1]))
            self._problems.append(f"{paths[-1]}: {key}: is in {paths[-2]} too; the last file by name counts")
        return self._files[paths[-1]][key]

    def _select(self, key: Key, old: Held | None, new: Held | None) -> None:
        owner = (key.namespace, key.name)
        workload = new.workload if new else None
        if key.kind is Kind.SERVICE:
            assert not isinstance(workload, SelectablePod)
            self._selection.set_service(owner, workload)
        elif key.kind is Kind.POD:
            assert not isinstance(workload, SelectingService)
            self._selection.set_pod(owner, workload)
        elif key.kind is Kind.ENDPOINT_SLICE:
            for held, change in ((old, -1), (new, 1)):
                content = held.event.object if held else None
                if isinstance(content, EndpointSlice) and content.service:
                    self._selection.count_slice((key.namespace, content.service), change)

    def _count_namespaces(self, key: Key, old: Held | None, new: Held | None) -> None:
        change = (new is not None) - (old is not None)
        if key.kind is Kind.NAMESPACE:
            self._declared_namespaces += change
        else:
            self._used_namespaces[key.namespace] += change

    def _imply_namespaces(self, events: list[Event]) -> list[Event]:
        """Events for the namespaces that exist because they are used. One that is declared just now has its own."""
        used = frozenset([name for name, count in self._used_namespaces.items() if count])
        implied = frozenset() if self._declared_namespaces else used
        before, self.implied_namespaces = self.implied_namespaces, implied
        declared = {event.name for event in events if event.kind is Kind.NAMESPACE and event.object is not None}
        gone = [Event(Kind.NAMESPACE, "", name, None) for name in sorted(before - implied - declared)]
        return gone + [
            Event(Kind.NAMESPACE, "", name, Namespace(name), {NAMESPACE_NAME_LABEL: name})
            for name in sorted(implied - before)
        ]


def _difference(key: Key, old: Held | None, new: Held | None) -> list[Event]:
    """The event that leads from one state of an object to another, if DNS sees any difference."""
    before, after = old.event if old else None, new.event if new else None
    if after is not None and after.object is not None:
        return [] if before == after else [after]
    return [Event(*key, None)] if before is not None and before.object is not None else []
