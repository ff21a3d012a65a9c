"""What plugins offer by name: adapters by URL scheme, providers by name, each imported when it is first asked for."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from turnkeep.errors import InvalidArgument, MissingDriver, PluginLoadError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from turnkeep.payload import PayloadFilter

DISTRIBUTIONS: Final = {
    "sqlite": "turnkeep-sqlite",
    "postgresql": "turnkeep-postgres",
    "postgres": "turnkeep-postgres",
    "sqlalchemy+*": "turnkeep-sqlalchemy",
    "redis": "turnkeep-redis",
    "rediss": "turnkeep-redis",
    "redis+cluster": "turnkeep-redis",
    "redis+sentinel": "turnkeep-redis",
    "rediss+cluster": "turnkeep-redis",
    "rediss+sentinel": "turnkeep-redis",
    "mongodb": "turnkeep-mongodb",
    "mongodb+srv": "turnkeep-mongodb",
    "opensearch": "turnkeep-opensearch",
    "opensearch+https": "turnkeep-opensearch",
}
"""Schemes of our own distributions, to be named to those who have not installed them."""

_ANY: Final = "+*"
_SCHEME: Final = re.compile(r"[a-z][a-z0-9.-]*(\+[a-z0-9.-]+)*(\+\*)?")
_IMPORT_PATH: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")

Target = str | Any
"""A class or function, or ``"package.module:name"`` where it is found."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a plugin comes from.

    Attributes:
        name: the plugin's.
        distribution: that announced it; None for one that the application handed over.
        given: the application handed it over.
    """

    name: str
    distribution: str | None = None
    given: bool = False

    def __str__(self) -> str:
        return f"{self.name!r} ({self.distribution})" if self.distribution else f"{self.name!r}"


@dataclass(frozen=True, slots=True)
class Offers:
    """What one plugin offers. Its methods are what ``register_*`` hooks are handed."""

    origin: Origin
    adapters: dict[str, Target] = field(default_factory=dict[str, Any])
    providers: dict[str, Target] = field(default_factory=dict[str, Any])
    filters: list[PayloadFilter] = field(default_factory=list["PayloadFilter"])

    def add_adapter(self, scheme: object, adapter: Target) -> None:
        """Takes an adapter for a URL scheme."""
        if not (isinstance(scheme, str) and _SCHEME.fullmatch(scheme)):
            raise InvalidArgument(f"a URL scheme is lower-case, such as 'acme' or 'acme+*', not {scheme!r:.80}")
        self._add(self.adapters, scheme, adapter)

    def add_provider(self, name: object, provider: Target) -> None:
        """Takes a provider."""
        if not (isinstance(name, str) and name):
            raise InvalidArgument(f"a provider needs a name, not {name!r:.80}")
        self._add(self.providers, name, provider)

    def add_payload_filter(self, payload_filter: object) -> None:
        """Takes the payload filter."""
        from turnkeep.payload import PayloadFilter

        if isinstance(payload_filter, type) or not isinstance(payload_filter, PayloadFilter):
            raise InvalidArgument(f"a payload filter has a name, seal and open: not {payload_filter!r:.80}")
        self.filters.append(payload_filter)

    @staticmethod
    def _add(offers: dict[str, Target], name: str, target: Target) -> None:
        if name in offers:
            raise InvalidArgument(f"{name!r:.80} is registered twice")
        if not (_IMPORT_PATH.fullmatch(target) if isinstance(target, str) else callable(target)):
            raise InvalidArgument(f"{name!r:.80} needs a class or 'package.module:name', not {target!r:.80}")
        offers[name] = target


@dataclass(frozen=True, slots=True)
class Claim:
    """One plugin's offer under one name."""

    origin: Origin
    target: Target

    def load(self, what: str) -> Any:
        """The object, imported now where only its place was given.

        Raises:
            MissingDriver: a module of somebody else's is not installed.
            PluginLoadError: it is not there, or its module fails.
        """
        if not isinstance(self.target, str):
            return self.target
        module_name, _, path = self.target.partition(":")
        try:
            found: Any = importlib.import_module(module_name)
            for part in path.split("."):
                found = getattr(found, part)
        except Exception as error:
            missing = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
            # An import that fails within turnkeep or the plugin's own package is a fault, nothing that pip can mend.
            if missing in {"", "turnkeep", module_name.partition(".")[0]}:
                cause = f"{type(error).__name__}: {error}"
                raise PluginLoadError(
                    f"{what} of plugin {self.origin} cannot be loaded from {self.target}: {cause}",
                    plugin=self.origin.name,
                ) from error
            fix = f"pip install {self.origin.distribution}" if self.origin.distribution else "install what provides it"
            raise MissingDriver(f"{what} needs the module {missing!r}: {fix} ({error})") from error
        return found


class Registry:
    """Names to the plugins that offer something under them."""

    def __init__(self, claims: dict[str, tuple[Claim, ...]] | None = None) -> None:
        self._claims = claims or {}

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that is offered, in order."""
        return tuple(sorted(self._claims))

    def extended(self, origin: Origin, offers: dict[str, Target]) -> Registry:
        """One that also has a plugin's offers; this one may be shared, and is not changed."""
        claims = dict(self._claims)
        for name, target in offers.items():
            claims[name] = (*claims.get(name, ()), Claim(origin, target))
        return Registry(claims)

    def find(self, name: str) -> Claim | None:
        """The claim on a name, else on its pattern (``acme+*`` for ``acme+more``); None where there is none.

        Raises:
            PluginLoadError: two plugins claim it, and neither or both were handed over by the application.
        """
        claims = self._claims.get(name) or self._claims.get(pattern(name), ())
        claims = tuple(claim for claim in claims if claim.origin.given) or claims
        if len(claims) > 1:
            both = " and ".join(str(claim.origin) for claim in claims)
            raise PluginLoadError(
                f"{name!r:.80} is claimed by the plugins {both}; block one of them: "
                f"TURNKEEP_BLOCKED_PLUGINS={claims[-1].origin.name}",
                plugin=claims[-1].origin.name,
            )
        return claims[0] if claims else None


def pattern(scheme: str) -> str:
    """The pattern that a scheme falls under: ``sqlalchemy+*`` for ``sqlalchemy+mysql+aiomysql``."""
    return scheme.partition("+")[0] + _ANY if "+" in scheme else ""


def distribution_for(scheme: str) -> str | None:
    """Which of our distributions has the scheme."""
    return DISTRIBUTIONS.get(scheme) or DISTRIBUTIONS.get(pattern(scheme))


def adapter_hint(scheme: str, installed: tuple[str, ...]) -> str:
    """What to do about a scheme that nothing installed offers: the pip line, or the nearest scheme; may be empty."""
    distribution = distribution_for(scheme)
    if distribution is not None:
        siblings = [name for name in installed if DISTRIBUTIONS.get(name) == distribution]
        return f"did you mean {' or '.join(siblings)}?" if siblings else f"pip install {distribution}"
    near = nearest(scheme, (*installed, *DISTRIBUTIONS))
    fix = "" if near is None or near in installed else f" pip install {DISTRIBUTIONS[near]}"
    return f"did you mean {near}?{fix}" if near else ""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like this one; None where none does."""
    import difflib

    return next(iter(difflib.get_close_matches(name, known, n=1)), None)
