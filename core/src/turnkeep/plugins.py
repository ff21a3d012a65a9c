"""Plugins: what is found and handed over, what they offer, and the hooks they implement.

Every ``Plugins`` stands for itself; there is no global one. A plugin that cannot be loaded or registered is *broken*:
one found by entry point hurts only who asks for what it offers, one handed over by the application raises at once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from turnkeep import _discovery
from turnkeep._binding import implementations
from turnkeep._calls import HookCalls
from turnkeep._dispatch import Dispatcher
from turnkeep._registry import Offers, Origin, Registry, adapter_hint, distribution_for, nearest, pattern
from turnkeep.errors import AdapterNotFound, ConfigurationError, InvalidArgument, PluginLoadError
from turnkeep.hooks import Hooks
from turnkeep.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnkeep._binding import Listener
    from turnkeep._dispatch import Offload
    from turnkeep.contract import StorageAdapter
    from turnkeep.payload import PayloadFilter

BLOCKED_VARIABLE: Final = "TURNKEEP_BLOCKED_PLUGINS"
"""Environment variable: names of plugins to block, separated by commas."""

Kind = Literal["built-in", "discovered", "given"]

_LOG: Final = logging.getLogger("turnkeep.plugins")


@dataclass(frozen=True, slots=True)
class PluginReport:
    """What became of one plugin.

    Attributes:
        name: the plugin's.
        kind: how it came here.
        distribution: that announced it; None for one that was handed over.
        version: of the distribution.
        hooks: that it implements, in order of name.
        schemes: that it offers adapters for.
        providers: that it offers.
        payload_filter: name of the filter it offers.
        error: why it is broken; None if it is not. Of a broken plugin, what is listed here was found out before that.
        blocked: it was not loaded: its name is blocked, or is not on the allow-list.
    """

    name: str
    kind: Kind
    distribution: str | None
    version: str | None
    hooks: tuple[str, ...]
    schemes: tuple[str, ...]
    providers: tuple[str, ...]
    payload_filter: str | None
    error: str | None
    blocked: bool


@dataclass(slots=True)
class _Entry:
    """A plugin, and what has become of it so far."""

    name: str
    kind: Kind
    distribution: str | None = None
    version: str | None = None
    plugin: object = None
    hooks: tuple[str, ...] = ()
    error: PluginLoadError | None = None
    blocked: bool = False
    offers: Offers = field(init=False)

    def __post_init__(self) -> None:
        self.offers = Offers(Origin(self.name, self.distribution, given=self.kind == "given"))

    @property
    def active(self) -> bool:
        """Whether its hooks are called."""
        return self.error is None and not self.blocked

    def report(self) -> PluginReport:
        filters = self.offers.filters
        return PluginReport(
            name=self.name,
            kind=self.kind,
            distribution=self.distribution,
            version=_discovery.own_version() if self.kind == "built-in" else self.version,
            hooks=self.hooks,
            schemes=tuple(sorted(self.offers.adapters)),
            providers=tuple(sorted(self.offers.providers)),
            payload_filter=filters[0].name if filters else None,
            error=None if self.error is None else str(self.error),
            blocked=self.blocked,
        )


class _BuiltIn:
    """What comes with Turnkeep itself, offered as any plugin would."""

    @hookimpl
    def register_adapters(self, register: Callable[[str, str], None]) -> None:
        register("memory", "turnkeep.memory:MemoryAdapter")

    @hookimpl
    def register_providers(self, register: Callable[[str, str], None]) -> None:
        register("guided", "turnkeep.providers.guided:GuidedProvider")


class Plugins(HookCalls):
    """The plugins of one application, and the hooks they implement.

    Order of calls: plugins found by entry point, by name; then ``plugins``, as listed; then ``hooks``. Among plugins,
    ``tryfirst`` and ``trylast`` are honoured.

    Args:
        plugins: objects or modules with functions marked ``@turnkeep.hookimpl``. One is named by its ``name`` attribute
            if that is a str, else for its class or module.
        hooks: the application's own functions.
        autoload: whether plugins announced by installed distributions are loaded.
        blocked: names of plugins that are not to be loaded, beside those in ``TURNKEEP_BLOCKED_PLUGINS``. A plugin
            handed over can be blocked too.
        allowed: if given, only announced plugins of these names are loaded.
        timeout: seconds that one implementation of a hook may take; None for ever.

    Raises:
        HookError: a plugin handed over has a hook that does not exist or does not fit.
        PluginLoadError: a plugin handed over cannot be registered, or is there already.
        InvalidArgument: an argument makes no sense.
    """

    def __init__(
        self,
        plugins: Iterable[object] = (),
        *,
        hooks: Hooks | None = None,
        autoload: bool = True,
        blocked: Iterable[str] = (),
        allowed: Iterable[str] | None = None,
        timeout: float | None = 30.0,
    ) -> None:
        if timeout is not None and not timeout > 0:
            raise InvalidArgument(f"a hook's timeout is a positive number of seconds, or None, not {timeout!r:.40}")
        from_environment = os.environ.get(BLOCKED_VARIABLE, "").split(",")
        self._blocked = _names(blocked, "blocked") | frozenset(map(str.strip, from_environment))
        self._allowed = None if allowed is None else _names(allowed, "allowed")
        self._entries: list[_Entry] = []
        self._adapters = Registry()
        self._providers = Registry()
        listeners = self._register(_Entry("turnkeep", "built-in", "turnkeep", plugin=_BuiltIn()))
        if autoload:
            listeners += self._discover()
        listeners += self._hand_over(plugins, hooks)
        self._dispatcher = Dispatcher(listeners, timeout=timeout)

    def extended(
        self, plugins: Iterable[object] = (), *, hooks: Hooks | None = None, offload: Offload | None = None
    ) -> Plugins:
        """Everything of this one, then ``plugins``, then ``hooks``. This one is not changed; nothing is looked up anew.

        Args:
            plugins: as for the class.
            hooks: as for the class.
            offload: as the attribute; None keeps this one's.

        Raises:
            HookError, PluginLoadError: as for the class.
        """
        other = object.__new__(type(self))
        other._blocked, other._allowed = self._blocked, self._allowed
        other._entries = list(self._entries)
        other._adapters, other._providers = self._adapters, self._providers
        listeners = other._hand_over(plugins, hooks)
        other._dispatcher = self._dispatcher.extended(listeners, offload=offload or self.offload)
        return other

    @property
    def offload(self) -> Offload | None:
        """Runs plain functions elsewhere than on the event loop; None: they run on it."""
        return self._dispatcher.offload

    @offload.setter
    def offload(self, offload: Offload | None) -> None:
        self._dispatcher.offload = offload

    # What plugins offer

    @property
    def schemes(self) -> tuple[str, ...]:
        """URL schemes that there are adapters for, in order; one that ends in ``+*`` stands for all that begin so."""
        return self._adapters.names

    @property
    def provider_names(self) -> tuple[str, ...]:
        """Providers that there are, in order."""
        return self._providers.names

    def adapter_class(self, scheme: str) -> type[StorageAdapter]:
        """The adapter for URLs of this scheme, imported now.

        Raises:
            AdapterNotFound: no plugin offers it; the message names what there is and what to install.
            PluginLoadError: the plugin that offers it is broken, or two offer it.
            MissingDriver: a module it needs is not installed.
        """
        from turnkeep.contract import CONTRACT_VERSION, StorageAdapter

        claim = self._adapters.find(scheme)
        if claim is None:
            raise self._no_adapter(scheme)
        found = claim.load(f"the adapter for {scheme}")
        if not (isinstance(found, type) and issubclass(found, StorageAdapter)):
            raise PluginLoadError(
                f"plugin {claim.origin} offers {found!r:.80} for {scheme}: no StorageAdapter", plugin=claim.origin.name
            )
        if found.contract_version != CONTRACT_VERSION:
            raise PluginLoadError(
                f"plugin {claim.origin}: its adapter for {scheme} is made for version {found.contract_version} of the "
                f"storage contract, this turnkeep has {CONTRACT_VERSION}; upgrade the older of the two",
                plugin=claim.origin.name,
            )
        return found

    def provider_class(self, name: str) -> Callable[..., Any]:
        """What makes the provider of this name, a class or function, imported now.

        Raises:
            InvalidArgument: no plugin offers it; the message names what there is.
            PluginLoadError: the plugin that offers it is broken, or two offer it.
            MissingDriver: a module it needs is not installed.
        """
        claim = self._providers.find(name)
        if claim is None:
            raise self._no_provider(name)
        found = claim.load(f"the provider {name}")
        if not callable(found):
            raise PluginLoadError(
                f"plugin {claim.origin} offers {found!r:.80} as provider {name!r}: no class or function",
                plugin=claim.origin.name,
            )
        return cast("Callable[..., Any]", found)

    @property
    def payload_filter(self) -> PayloadFilter | None:
        """The one filter that payloads pass through; None where no plugin offers one.

        Raises:
            PluginLoadError: two plugins offer one; or one that does is broken, and to go on would be to store in the
                clear what was meant to be sealed.
        """
        for entry in self._entries:
            if entry.error is not None and hasattr(entry.plugin, "register_payload_filter"):
                raise _again(entry.error)
        found = [(entry, one) for entry in self._entries if entry.active for one in entry.offers.filters]
        if len(found) > 1:
            both = " and ".join(str(entry.offers.origin) for entry, _ in found)
            last = found[-1][0].name
            raise PluginLoadError(
                f"there can be one payload filter, and the plugins {both} offer one each; block all but one: "
                f"{BLOCKED_VARIABLE}={last}",
                plugin=last,
            )
        return found[0][1] if found else None

    def report(self) -> tuple[PluginReport, ...]:
        """What became of each plugin: Turnkeep's own, then those announced, then those handed over."""
        return tuple(entry.report() for entry in self._entries)

    # Registration

    def _discover(self) -> list[Listener]:
        listeners: list[Listener] = []
        for point in _discovery.find_entry_points():
            entry = _Entry(point.name, "discovered", point.distribution, point.version)
            if self._allowed is not None and point.name not in self._allowed:
                entry.blocked = True
                self._entries.append(entry)
                continue
            try:
                if point.name not in self._blocked:
                    entry.plugin = point.load()
                listeners += self._register(entry)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the host outlives any plugin
                cause = f"{type(error).__name__}: {error}"
                entry.error = PluginLoadError(f"plugin {entry.offers.origin} is broken: {cause}", plugin=entry.name)
                entry.error.__cause__ = error
                self._entries.append(entry)
                _LOG.warning("%s", entry.error)
                _LOG.debug("%s", entry.error, exc_info=error)
        return listeners

    def _hand_over(self, plugins: Iterable[object], hooks: Hooks | None) -> list[Listener]:
        _check_kinds(plugins, hooks)
        listeners: list[Listener] = []
        for plugin in plugins:
            entry = _Entry(_name_of(plugin), "given", plugin=plugin)
            try:
                listeners += self._register(entry)
            except ConfigurationError:
                raise
            except Exception as error:
                cause = f"{type(error).__name__}: {error}"
                raise PluginLoadError(
                    f"plugin {entry.name!r} cannot be registered: {cause}", plugin=entry.name
                ) from error
        return listeners + list(hooks.listeners if hooks else ())

    def _register(self, entry: _Entry) -> list[Listener]:
        """Takes a plugin in, or nothing of it. Returns its implementations of hooks that are still to be called."""
        if entry.name in self._blocked:
            entry.blocked = True
            self._entries.append(entry)
            return []
        self._refuse_duplicate(entry)
        found = implementations(entry.plugin, entry.name)
        entry.hooks = tuple(sorted({listener.hook for listener in found}))
        offers = entry.offers
        register = {
            "register_adapters": offers.add_adapter,
            "register_providers": offers.add_provider,
            "register_payload_filter": offers.add_payload_filter,
        }
        for listener in found:
            if listener.hook in register:
                listener.call({"register": register[listener.hook]})
        self._entries.append(entry)
        if offers.adapters:
            self._adapters = self._adapters.extended(offers.origin, offers.adapters)
        if offers.providers:
            self._providers = self._providers.extended(offers.origin, offers.providers)
        return [listener for listener in found if listener.hook not in register]

    def _refuse_duplicate(self, entry: _Entry) -> None:
        for other in self._entries:
            if not other.active or (other.plugin is not entry.plugin and other.name != entry.name):
                continue
            came = "handed over" if other.kind == "given" else f"found in {other.distribution}"
            what = "plugin" if other.plugin is entry.plugin else "plugin of that name"
            raise PluginLoadError(
                f"plugin {entry.name!r}: the same {what} was {came} already, as {other.name!r}; leave one out"
                f"{'' if what == 'plugin' else ', or set its name attribute'}",
                plugin=entry.name,
            )

    # Answers for what is not there

    def _no_adapter(self, scheme: str) -> ConfigurationError:
        distribution = distribution_for(scheme)
        for entry in self._entries:
            if entry.active or not (
                entry.name == scheme
                or (distribution is not None and entry.distribution == distribution)
                or {scheme, pattern(scheme)} & entry.offers.adapters.keys()
            ):
                continue
            if entry.error is not None:
                return _again(entry.error)
            return AdapterNotFound(f"there is no adapter for {scheme!r:.80}: plugin {entry.offers.origin} is blocked")
        hint = adapter_hint(scheme, self.schemes)
        return AdapterNotFound(f"there is no adapter for {scheme!r:.80}{_told(hint)} {self._inventory(self.schemes)}")

    def _no_provider(self, name: str) -> ConfigurationError:
        for entry in self._entries:
            if entry.error is not None and (name == entry.name or name in entry.offers.providers):
                return _again(entry.error)
        near = nearest(name, self.provider_names)
        hint = f"did you mean {near}?" if near else ""
        return InvalidArgument(f"there is no provider {name!r:.80}{_told(hint)} {self._inventory(self.provider_names)}")

    def _inventory(self, names: tuple[str, ...]) -> str:
        broken = [entry.name for entry in self._entries if entry.error is not None]
        also = f"; broken, so what they offer is not known: {', '.join(broken)}" if broken else ""
        return f"Installed: {', '.join(names) or 'none'}{also}"


def _told(hint: str) -> str:
    """The hint, which may be empty, and the end of the sentence it is a part of."""
    return f": {hint}" if hint.endswith("?") else f": {hint}." if hint else "."


def _again(error: PluginLoadError) -> PluginLoadError:
    """A fresh one: each raise of an error adds to its traceback, and this one is kept."""
    fresh = PluginLoadError(str(error), plugin=error.plugin)
    fresh.__cause__ = error.__cause__
    return fresh


def _check_kinds(plugins: object, hooks: object) -> None:
    if not (hooks is None or isinstance(hooks, Hooks)):
        raise InvalidArgument(f"hooks must be turnkeep.Hooks(…), not {type(hooks).__name__}")
    if isinstance(plugins, str) or not isinstance(plugins, Iterable):
        raise InvalidArgument(f"plugins must be a list of objects, not {type(plugins).__name__}")


def _name_of(plugin: object) -> str:
    if isinstance(plugin, ModuleType | type):
        return plugin.__name__
    name = getattr(plugin, "name", None)
    return name if isinstance(name, str) and name else type(plugin).__name__


def _names(names: Iterable[str], argument: str) -> frozenset[str]:
    if isinstance(names, str):
        raise InvalidArgument(f"{argument} must be a list of names, not one str: [{names!r:.80}]")
    return frozenset(names)
