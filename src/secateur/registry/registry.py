"""A registry maps names to ``"package.module:attribute"`` and imports an object on first use.

Listing names therefore never imports torch. Installed packages add names through entry points (group
``secateur.<kind>``); they are discovered when all names are listed and when a name is unknown.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from secateur.errors import ExitCode, UserError
from secateur.text import did_you_mean


@dataclass(frozen=True)
class Entry:
    """A registered name: the object's location, a one-line summary, and facts.

    Facts that every kind may have: ``label``, its name in reports; ``paper``, such as ``arXiv:1811.09600``;
    ``bibtex``, a tuple of keys of ``report/templates/references.bib`` or of whole BibTeX entries, empty where
    there is no paper.

    >>> entry = Entry("sqrt", "math:sqrt", "square root", {"label": "root"})
    >>> entry.label, entry.load()(4)
    ('root', 2.0)
    """

    name: str
    target: str
    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its name in reports; by default the registered name."""
        return str(self.facts.get("label", self.name))

    def load(self) -> Any:
        """Import and return the registered object."""
        module, _, attribute = self.target.partition(":")
        return getattr(import_module(module), attribute)


class Registry:
    """All names of one kind, in order of registration.

    >>> functions = Registry("function")
    >>> functions.register("root", "math:sqrt", "square root")
    >>> functions.names(), functions.get("root")(9)
    (['root'], 3.0)
    >>> functions.get("rot")
    Traceback (most recent call last):
    secateur.errors.UserError: unknown function 'rot' (did you mean 'root'?)
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}
        self._objects: dict[str, Any] = {}
        self._discovered = False

    def register(self, name: str, target: str | Any, summary: str = "", **facts: Any) -> None:
        """Add ``name``; ``target`` is ``"module:attribute"`` or the object itself.

        Raises:
            UserError: the name is taken by something else.
        """
        where = target if isinstance(target, str) else _place(target)
        # The same object may be registered again, as when a module is reloaded.
        if (known := self._entries.get(name)) and known.target != where:
            raise UserError(
                f"{self.kind} '{name}' is already registered as {known.target}", hint="choose another name"
            )
        self._entries[name] = Entry(name, where, summary, facts)
        if not isinstance(target, str):
            self._objects[name] = target

    def describe(self, entry: Entry) -> None:
        """Replace the entry of a registered name; the object stays."""
        self._entries[entry.name] = entry

    def entries(self) -> list[Entry]:
        """Every entry, including installed plug-ins."""
        self._discover()
        return list(self._entries.values())

    def names(self) -> list[str]:
        """Every name, in order of registration."""
        return [entry.name for entry in self.entries()]

    def entry(self, name: str) -> Entry:
        """The entry called ``name``.

        Raises:
            UserError: no such name; the hint offers the nearest one.
        """
        if name not in self._entries:
            # Searching all installed packages takes longer than planning a small network.
            self._discover()
        if name in self._entries:
            return self._entries[name]
        hint = did_you_mean(name, self._entries, otherwise=f"known: {', '.join(self._entries)}")
        raise UserError(f"unknown {self.kind} '{name}'", hint=hint)

    def facts(self, name: str) -> Mapping[str, Any]:
        """The facts of ``name``; none if nothing is registered under it."""
        if name not in self._entries:
            self._discover()
        return self._entries[name].facts if name in self._entries else {}

    def get(self, name: str) -> Any:
        """The object called ``name``, imported on first use.

        Raises:
            UserError: no such name, or an installed plug-in that cannot be imported.
        """
        entry = self.entry(name)
        if name not in self._objects:
            try:
                self._objects[name] = entry.load()
            except (ImportError, AttributeError) as error:
                # Our own modules must be importable; a broken package is the user's to mend.
                if not entry.facts.get("installed"):
                    raise
                raise UserError(
                    f"{self.kind} '{name}' of {entry.facts['installed']} cannot be imported: {error}",
                    hint=f"its entry point is {entry.target}",
                    code=ExitCode.ENVIRONMENT,
                ) from error
        return self._objects[name]

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        # Entry points are looked up late: it reads the metadata of every installed package.
        for point in entry_points(group=f"secateur.{self.kind}"):
            package = point.dist.name if point.dist else "an installed package"
            if point.name in self._entries:
                raise UserError(
                    f"{package} registers {self.kind} '{point.name}', which is taken by "
                    f"{self._entries[point.name].target}",
                    hint=f"pip uninstall {package}, or rename its entry point",
                    code=ExitCode.ENVIRONMENT,
                )
            version = f"{package} {point.dist.version}" if point.dist else 1
            self.register(point.name, point.value, f"from {package}", installed=package, science=version)


def _place(target: Any) -> str:
    """The location of an object, or of its type if it has no name, as a partial."""
    named = target if hasattr(target, "__qualname__") else type(target)
    return f"{named.__module__}:{named.__qualname__}"
