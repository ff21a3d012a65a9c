"""What is found and handed over, what it offers, and who is hurt when it is broken."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import pathlib
import subprocess
import sys
import textwrap
import types

import pytest

from turnkeep import _discovery
from turnkeep._registry import DISTRIBUTIONS
from turnkeep.contract import StorageAdapter
from turnkeep.errors import (
    AdapterNotFound,
    HookError,
    InvalidArgument,
    MissingDriver,
    PluginLoadError,
)
from turnkeep.hooks import Hooks, SessionView
from turnkeep.hookspecs import hookimpl
from turnkeep.memory import MemoryAdapter
from turnkeep.messages import Message
from turnkeep.models import SessionState
from turnkeep.payload import PayloadFilter
from turnkeep.plugins import Plugins

VIEW = SessionView("s1", None, "default")
LOADED = SessionView("s1", None, "default", SessionState("s1"))


@pytest.fixture(autouse=True)
def no_blocked_plugins(monkeypatch):
    monkeypatch.delenv("TURNKEEP_BLOCKED_PLUGINS", raising=False)


@pytest.fixture
def announce(monkeypatch):
    """Announces plugins as installed distributions do; an exception stands for what importing one raises."""

    def announce(**plugins):
        def load(plugin):
            if isinstance(plugin, BaseException):
                raise plugin
            return plugin

        points = tuple(
            _discovery.EntryPoint(name, f"turnkeep-{name}", "1.2", lambda plugin=plugin: load(plugin))
            for name, plugin in sorted(plugins.items())
        )
        monkeypatch.setattr(_discovery, "find_entry_points", lambda: points)

    announce()
    return announce


class Adapters:
    """Offers adapters."""

    def __init__(self, name=None, **schemes):
        self.name = name
        self.schemes = schemes

    @hookimpl
    def register_adapters(self, register):
        for scheme, target in self.schemes.items():
            register(scheme.replace("_any", "+*"), target)


class Provides:
    """Offers providers."""

    def __init__(self, name=None, **providers):
        self.name = name
        self.providers = providers

    @hookimpl
    def register_providers(self, register):
        for name, target in self.providers.items():
            register(name, target)


class Reversing:
    """A payload filter."""

    name = "reversing"

    def seal(self, kind, aad, payload):
        return payload[::-1]

    def open(self, kind, aad, sealed):
        return sealed[::-1]


class Filters:
    """Offers a payload filter."""

    def __init__(self, name=None, payload_filter=None):
        self.name = name
        self.payload_filter = payload_filter or Reversing()

    @hookimpl
    def register_payload_filter(self, register):
        register(self.payload_filter)


class Watching:
    """Notes what it sees."""

    def __init__(self, name, seen):
        self.name = name
        self.seen = seen

    @hookimpl
    def on_session_created(self):
        self.seen.append(self.name)


class Typo:
    @hookimpl
    def on_sesion_created(self): ...


class Asking:
    @hookimpl
    def on_session_created(self, database): ...


class Other(MemoryAdapter):
    pass


# What comes with turnkeep


def test_the_built_in_plugin_offers_memory_and_guided():
    plugins = Plugins(autoload=False)
    assert plugins.schemes == ("memory",)
    assert plugins.adapter_class("memory") is MemoryAdapter
    assert plugins.provider_names == ("guided",)
    (report,) = plugins.report()
    assert (report.name, report.kind, report.distribution) == ("turnkeep", "built-in", "turnkeep")
    assert (report.schemes, report.providers) == (("memory",), ("guided",))
    assert report.hooks == ("register_adapters", "register_providers")


def test_the_built_in_provider_is_there():
    assert Plugins(autoload=False).provider_class("guided").__name__ == "GuidedProvider"


def test_importing_and_discovering_load_neither_pydantic_nor_a_driver():
    code = """
        import sys
        import turnkeep.plugins
        assert "importlib_metadata" not in sys.modules
        turnkeep.plugins.Plugins(autoload=False)
        assert "importlib_metadata" not in sys.modules
        turnkeep.plugins.Plugins(blocked=[])
        print([name for name in ("pydantic", "sqlite3", "asyncpg") if name in sys.modules])
    """
    assert run(code) == "[]"


# Order


async def test_order_is_announced_by_name_then_given_as_listed_then_hooks(announce):
    seen = []
    announce(beta=Watching("beta", seen), alpha=Watching("alpha", seen))
    plugins = Plugins(
        [Watching("zeta", seen), Watching("eta", seen)], hooks=Hooks(on_session_created=lambda: seen.append("hooks"))
    )
    await plugins.on_session_created(VIEW)
    assert seen == ["alpha", "beta", "zeta", "eta", "hooks"]


async def test_tryfirst_and_trylast_are_honoured_among_plugins(announce):
    seen = []

    class First:
        @hookimpl(tryfirst=True)
        def on_session_created(self):
            seen.append("first")

    class Last:
        @hookimpl(trylast=True)
        def on_session_created(self):
            seen.append("last")

    announce(alpha=Last(), beta=Watching("beta", seen))
    plugins = Plugins([First()], hooks=Hooks(on_session_created=lambda: seen.append("hooks")))
    await plugins.on_session_created(VIEW)
    assert seen == ["first", "beta", "last", "hooks"]


async def test_extended_has_everything_and_adds_to_it(announce):
    seen = []
    announce(alpha=Watching("alpha", seen))
    base = Plugins([Watching("base", seen)], hooks=Hooks(on_session_created=lambda: seen.append("outer hooks")))
    more = base.extended([Watching("more", seen)], hooks=Hooks(on_session_created=lambda: seen.append("inner hooks")))
    await more.on_session_created(VIEW)
    assert seen == ["alpha", "base", "more", "outer hooks", "inner hooks"]
    seen.clear()
    await base.on_session_created(VIEW)
    assert seen == ["alpha", "base", "outer hooks"]
    assert [report.name for report in more.report()] == ["turnkeep", "alpha", "base", "more"]
    assert [report.name for report in base.report()] == ["turnkeep", "alpha", "base"]


def test_extended_looks_nothing_up(announce, monkeypatch):
    base = Plugins(autoload=True)

    def scan():
        raise AssertionError("scanned")

    monkeypatch.setattr(_discovery, "find_entry_points", scan)
    more = base.extended([Adapters(acme=Other)])
    assert more.schemes == ("acme", "memory")
    assert base.schemes == ("memory",)
    assert more.adapter_class("acme") is Other


async def test_offload_is_inherited_and_can_be_set():
    async def first(function):
        return function()

    async def second(function):
        return function()

    base = Plugins(autoload=False)
    assert base.offload is None
    base.offload = first
    assert base.extended().offload is first
    assert base.extended(offload=second).offload is second
    assert base.offload is first


def test_listens(announce):
    plugins = Plugins([Watching("a", [])])
    assert plugins.listens("on_session_created")
    assert not plugins.listens("on_startup")
    assert plugins.extended(hooks=Hooks(on_startup=print)).listens("on_startup")


# Calling


async def test_every_method_reaches_its_hook():
    calls = []

    def note(hook):
        def inner(**arguments):
            calls.append((hook, arguments))

        return inner

    names = [field.name for field in dataclasses.fields(Hooks) if field.init]
    plugins = Plugins(autoload=False, hooks=Hooks(**{name: note(name) for name in names}))
    for name in names:
        arguments = {key: f"{name}.{key}" for key in sorted(_arguments(name))}
        result = await getattr(plugins, name)(**arguments)
        assert calls.pop() == (name, arguments)
        value = {
            "before_commit": "turn",
            "before_message_save": "message",
            "before_provider_call": "history",
            "before_respond": "context",
            "before_data_update": "data",
        }.get(name)
        assert result == (arguments[value] if value else None)


def _arguments(hook):
    from turnkeep.hookspecs import HOOKS

    return HOOKS[hook]


@dataclasses.dataclass(frozen=True)
class Turn:
    commit_id: str
    messages: tuple = ()


MESSAGE = Message("user", "hello")
USELESS = [
    ("before_respond", ({}, VIEW), "text", "str, where a dict"),
    ("before_data_update", ({}, {}, VIEW), [], "list, where a dict"),
    ("before_message_save", (MESSAGE, VIEW), "redacted", "str, where a Message"),
    ("before_message_save", (MESSAGE, VIEW), {"role": "user", "content": "x"}, "dict, where a Message"),
    ("before_provider_call", ((MESSAGE,), VIEW), MESSAGE, "'Message' object is not iterable"),
    ("before_provider_call", ((MESSAGE,), VIEW), ["hello"], "str, where a Message"),
    ("before_commit", (Turn("c1"), VIEW), {}, "dict, where a Turn"),
    ("before_commit", (Turn("c1"), VIEW), Turn("c2"), "a turn with another commit id"),
    ("before_commit", (Turn("c1"), VIEW), Turn("c1", (1,)), "where the session was not loaded"),
]


@pytest.mark.parametrize(("hook", "arguments", "result", "reason"), USELESS)
async def test_a_returned_value_of_the_wrong_kind_is_refused(hook, arguments, result, reason):
    plugins = Plugins(autoload=False, hooks=Hooks(**{hook: lambda: result}))
    with pytest.raises(HookError, match=reason) as caught:
        await getattr(plugins, hook)(*arguments)
    assert caught.value.hook == hook


USEFUL = [
    ("before_respond", ({}, VIEW), {"a": 1}, {"a": 1}),
    ("before_data_update", ({}, {}, VIEW), {}, {}),
    ("before_message_save", (MESSAGE, VIEW), MESSAGE.replace(content="…"), MESSAGE.replace(content="…")),
    ("before_provider_call", ((MESSAGE,), VIEW), [MESSAGE, MESSAGE], (MESSAGE, MESSAGE)),
    ("before_provider_call", ((MESSAGE,), VIEW), [], ()),
    ("before_commit", (Turn("c1"), LOADED), Turn("c1", (1,)), Turn("c1", (1,))),
]


@pytest.mark.parametrize(("hook", "arguments", "result", "expected"), USEFUL)
async def test_a_returned_value_of_the_right_kind_is_taken(hook, arguments, result, expected):
    plugins = Plugins(autoload=False, hooks=Hooks(**{hook: lambda: result}))
    assert await getattr(plugins, hook)(*arguments) == expected


async def test_a_plugin_that_raises_is_logged_and_a_function_of_hooks_raises(caplog):
    class Raising:
        @hookimpl
        async def on_session_created(self):
            raise RuntimeError("audit log is full")

    seen = []
    plugins = Plugins([Raising(), Watching("after", seen)], autoload=False)
    await plugins.on_session_created(VIEW)
    assert seen == ["after"]
    assert "on_session_created of plugin 'Raising' failed: audit log is full" in caplog.text
    with pytest.raises(ZeroDivisionError):
        await plugins.extended(hooks=Hooks(on_session_created=lambda: 1 / 0)).on_session_created(VIEW)


async def test_the_timeout_is_handed_on():
    async def hang():
        await asyncio.Event().wait()

    plugins = Plugins(autoload=False, timeout=0.01)
    with pytest.raises(HookError, match=r"within 0\.01 seconds"):
        await plugins.extended(hooks=Hooks(before_respond=hang)).before_respond({}, VIEW)


# Broken ones


BROKEN = {
    "that cannot be imported": ImportError("No module named 'numpy'"),
    "that raises on import": RuntimeError("no such setting"),
    "that exits on import": SystemExit(3),
    "that misspells a hook": Typo(),
    "that asks for an unknown argument": Asking(),
    "that implements nothing": object(),
    "that is a class": Adapters,
    "whose scheme is no scheme": Adapters(**{"No Scheme": Other}),
    "whose adapter is no path": Adapters(other="turnkeep.memory"),
    "that registers what is no filter": Filters(payload_filter=object()),
}


@pytest.mark.parametrize("kind", sorted(BROKEN))
async def test_a_broken_plugin_hurts_only_who_asks_for_it(announce, caplog, kind):
    seen = []
    announce(acme=BROKEN[kind], good=Watching("good", seen), zeta=Adapters(zeta=Other))
    plugins = Plugins()
    assert plugins.adapter_class("zeta") is Other
    assert plugins.adapter_class("memory") is MemoryAdapter
    await plugins.on_session_created(VIEW)
    assert seen == ["good"]
    for ask in (plugins.adapter_class, plugins.provider_class):
        with pytest.raises(PluginLoadError, match=r"plugin 'acme' \(turnkeep-acme\) is broken") as caught:
            ask("acme")
        assert caught.value.plugin == "acme"
        assert isinstance(caught.value.__cause__, BaseException)
    (report,) = [report for report in plugins.report() if report.error]
    assert (report.name, report.distribution, report.version) == ("acme", "turnkeep-acme", "1.2")
    assert type(caught.value.__cause__).__name__ in report.error
    (record,) = [record for record in caplog.records if record.name == "turnkeep.plugins"]
    assert record.levelno == logging.WARNING
    assert "'acme'" in record.getMessage()


def test_a_broken_plugin_is_found_by_the_schemes_it_had_offered(announce):
    class Half:
        @hookimpl
        def register_adapters(self, register):
            register("half", Other)
            register("part+*", Other)
            raise OSError("disk")

    announce(acme=Half())
    plugins = Plugins()
    for scheme in ("half", "part+more"):
        with pytest.raises(PluginLoadError, match="OSError: disk"):
            plugins.adapter_class(scheme)
    assert plugins.schemes == ("memory",)


def test_a_broken_plugin_is_found_by_the_scheme_its_distribution_is_known_for(announce):
    announce(postgres=ImportError("broken"))
    for scheme in ("postgresql", "postgres"):
        with pytest.raises(PluginLoadError, match=r"'postgres' \(turnkeep-postgres\)"):
            Plugins().adapter_class(scheme)


def test_one_that_is_asked_for_something_else_hears_of_broken_plugins(announce):
    announce(acme=ImportError("broken"))
    with pytest.raises(AdapterNotFound, match=r"Installed: memory; broken, so what they offer is not known: acme$"):
        Plugins().adapter_class("other")


def test_errors_of_broken_plugins_are_made_anew(announce):
    announce(acme=ImportError("broken"))
    plugins = Plugins()
    errors = []
    for _ in range(2):
        with pytest.raises(PluginLoadError) as caught:
            plugins.adapter_class("acme")
        errors.append(caught.value)
    assert errors[0] is not errors[1]


@pytest.mark.parametrize(
    ("plugin", "error", "reason"),
    [
        (Typo(), HookError, "Typo: there is no hook 'on_sesion_created'; did you mean on_session_created"),
        (Asking(), HookError, "on_session_created of 'Asking' asks for 'database'.*Its arguments: session"),
        (object(), PluginLoadError, "plugin 'object' implements no hook"),
        (None, PluginLoadError, "plugin 'NoneType' implements no hook"),
        ("sqlite", PluginLoadError, "plugin 'str' implements no hook"),
        (Typo, PluginLoadError, r"hand over an instance: Typo\(\)"),
        (Adapters(UPPER=Other), InvalidArgument, "a URL scheme is lower-case"),
        (Adapters(x=3), InvalidArgument, "'x' needs a class or"),
        (Provides(**{"": Other}), InvalidArgument, "a provider needs a name"),
        (Filters(payload_filter=Reversing), InvalidArgument, "a payload filter has a name, seal and open"),
    ],
)
def test_a_plugin_handed_over_that_does_not_fit_raises_at_once(plugin, error, reason):
    base = Plugins(autoload=False)
    for register in (lambda: Plugins([plugin], autoload=False), lambda: base.extended([plugin])):
        with pytest.raises(error, match=reason):
            register()
    assert base.report() == Plugins(autoload=False).report()


def test_what_a_register_hook_raises_is_named():
    class Failing:
        @hookimpl
        def register_adapters(self):
            raise KeyError("setting")

    with pytest.raises(PluginLoadError, match="plugin 'Failing' cannot be registered: KeyError: 'setting'") as caught:
        Plugins([Failing()], autoload=False)
    assert isinstance(caught.value.__cause__, KeyError)


def test_registering_twice_is_refused(announce):
    plugin = Watching("audit", [])
    with pytest.raises(PluginLoadError, match="'audit': the same plugin was handed over already"):
        Plugins([plugin, plugin])
    with pytest.raises(PluginLoadError, match="the same plugin was handed over already"):
        Plugins([plugin]).extended([plugin])
    with pytest.raises(PluginLoadError, match=r"the same plugin of that name.*set its name attribute"):
        Plugins([plugin, Watching("audit", [])])
    announce(audit=plugin)
    with pytest.raises(PluginLoadError, match="the same plugin was found in turnkeep-audit already, as 'audit'"):
        Plugins([plugin])
    assert Plugins([plugin], autoload=False).listens("on_session_created")


def test_an_announced_plugin_of_a_taken_name_is_broken(announce):
    announce(turnkeep=Watching("x", []))
    plugins = Plugins()
    assert not plugins.listens("on_session_created")
    assert "the same plugin of that name was found in turnkeep already" in plugins.report()[1].error


@pytest.mark.parametrize(
    "arguments",
    [
        {"plugins": "audit"},
        {"plugins": Typo()},
        {"hooks": {"on_startup": print}},
        {"blocked": "audit"},
        {"allowed": "audit"},
        {"timeout": 0},
        {"timeout": -1},
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments):
    with pytest.raises(InvalidArgument):
        Plugins(**{"autoload": False, **arguments})


# Blocking


@pytest.mark.parametrize("how", ["argument", "environment", "allow-list", "autoload"])
def test_a_plugin_that_is_not_wanted_is_not_even_imported(announce, monkeypatch, how):
    announce(acme=AssertionError("imported"), good=Watching("good", []))
    if how == "environment":
        monkeypatch.setenv("TURNKEEP_BLOCKED_PLUGINS", "other, acme ,")
    arguments = {
        "argument": {"blocked": ["acme"]},
        "environment": {},
        "allow-list": {"allowed": ["good"]},
        "autoload": {"autoload": False},
    }[how]
    plugins = Plugins(**arguments)
    reports = {report.name: report for report in plugins.report()}
    if how == "autoload":
        assert set(reports) == {"turnkeep"}
        return
    assert (reports["acme"].blocked, reports["acme"].error) == (True, None)
    assert not reports["good"].blocked
    assert plugins.listens("on_session_created")
    with pytest.raises(AdapterNotFound, match=r"plugin 'acme' \(turnkeep-acme\) is blocked"):
        plugins.adapter_class("acme")


def test_blocking_wins_over_allowing_and_reaches_plugins_handed_over(announce, monkeypatch):
    announce(acme=AssertionError("imported"))
    assert Plugins(allowed=["acme"], blocked=["acme"]).report()[1].blocked
    monkeypatch.setenv("TURNKEEP_BLOCKED_PLUGINS", "audit")
    plugins = Plugins([Watching("audit", [])], autoload=False)
    assert not plugins.listens("on_session_created")
    assert not plugins.extended([Watching("audit", [])]).listens("on_session_created")
    assert plugins.report()[-1].blocked


def test_an_allow_list_concerns_announced_plugins_only(announce):
    announce(acme=Watching("acme", []))
    plugins = Plugins([Watching("mine", [])], allowed=[])
    assert plugins.schemes == ("memory",)
    assert [(report.name, report.blocked) for report in plugins.report()] == [
        ("turnkeep", False),
        ("acme", True),
        ("mine", False),
    ]


# Adapters


@pytest.mark.parametrize(
    ("scheme", "distribution"),
    [
        ("sqlite", "turnkeep-sqlite"),
        ("postgresql", "turnkeep-postgres"),
        ("postgres", "turnkeep-postgres"),
        ("sqlalchemy+mysql", "turnkeep-sqlalchemy"),
        ("sqlalchemy+postgresql+asyncpg", "turnkeep-sqlalchemy"),
        ("redis", "turnkeep-redis"),
        ("rediss", "turnkeep-redis"),
        ("redis+cluster", "turnkeep-redis"),
        ("redis+sentinel", "turnkeep-redis"),
        ("rediss+cluster", "turnkeep-redis"),
        ("rediss+sentinel", "turnkeep-redis"),
        ("mongodb", "turnkeep-mongodb"),
        ("mongodb+srv", "turnkeep-mongodb"),
        ("opensearch", "turnkeep-opensearch"),
        ("opensearch+https", "turnkeep-opensearch"),
    ],
)
def test_a_known_scheme_that_is_not_installed_has_its_pip_line(scheme, distribution):
    with pytest.raises(AdapterNotFound, match=f"pip install {distribution}. Installed: memory"):
        Plugins(autoload=False).adapter_class(scheme)


def test_the_known_distributions_are_all_tested():
    assert len(DISTRIBUTIONS) == 14


@pytest.mark.parametrize(
    ("scheme", "hint"),
    [
        ("memroy", r"did you mean memory\? Installed"),
        ("sqllite", r"did you mean sqlite\? pip install turnkeep-sqlite"),
        ("postgressql", r"did you mean postgresql\? pip install turnkeep-postgres"),
        ("xyz", r"there is no adapter for 'xyz'\. Installed: memory$"),
        ("", r"there is no adapter for ''\. Installed: memory$"),
        ("s" * 5000, r"there is no adapter for 's{70,80}"),
    ],
)
def test_an_unknown_scheme_has_the_nearest(scheme, hint):
    with pytest.raises(AdapterNotFound, match=hint) as caught:
        Plugins(autoload=False).adapter_class(scheme)
    assert isinstance(caught.value, LookupError)
    assert len(str(caught.value)) < 300


def test_another_name_of_an_installed_adapter_has_no_pip_line():
    plugins = Plugins([Adapters(postgresql=Other)], autoload=False)
    with pytest.raises(AdapterNotFound, match=r"did you mean postgresql\? Installed: memory, postgresql"):
        plugins.adapter_class("postgres")


def test_a_pattern_takes_what_begins_so():
    plugins = Plugins(
        [Adapters("a", sqlalchemy_any=MemoryAdapter), Adapters("b", **{"sqlalchemy+own": Other})], autoload=False
    )
    assert plugins.adapter_class("sqlalchemy+mysql") is MemoryAdapter
    assert plugins.adapter_class("sqlalchemy+postgresql+asyncpg") is MemoryAdapter
    assert plugins.adapter_class("sqlalchemy+own") is Other
    assert plugins.schemes == ("memory", "sqlalchemy+*", "sqlalchemy+own")
    with pytest.raises(AdapterNotFound):
        plugins.adapter_class("sqlalchemy")
    with pytest.raises(AdapterNotFound):
        plugins.adapter_class("memory+x")


def test_two_claimants_are_both_named_when_the_scheme_is_asked_for(announce):
    announce(one=Adapters(acme=Other, one=Other), two=Adapters(acme=MemoryAdapter), three=Adapters(memory=Other))
    plugins = Plugins()
    with pytest.raises(
        PluginLoadError, match=r"'acme' is claimed by .*'one' \(turnkeep-one\) and 'two' \(turnkeep-two\)"
    ):
        plugins.adapter_class("acme")
    with pytest.raises(PluginLoadError, match=r"'turnkeep' \(turnkeep\) and 'three'.*TURNKEEP_BLOCKED_PLUGINS=three"):
        plugins.adapter_class("memory")
    assert plugins.adapter_class("one") is Other
    assert Plugins(blocked=["two"]).adapter_class("acme") is Other


def test_one_handed_over_wins_over_announced_ones(announce):
    announce(one=Adapters(acme=Other), two=Adapters(acme=Other))
    plugins = Plugins([Adapters("mine", acme=MemoryAdapter)])
    assert plugins.adapter_class("acme") is MemoryAdapter
    more = plugins.extended([Adapters("also mine", acme=Other)])
    with pytest.raises(PluginLoadError, match="'mine' and 'also mine'"):
        more.adapter_class("acme")


def test_one_plugin_cannot_claim_a_scheme_twice():
    class Twice:
        @hookimpl
        def register_adapters(self, register):
            register("acme", Other)
            register("acme", MemoryAdapter)

    with pytest.raises(InvalidArgument, match="'acme' is registered twice"):
        Plugins([Twice()], autoload=False)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Makes the modules of a package ``turnkeep_acme`` that can be imported."""
    root = tmp_path / "turnkeep_acme"
    root.mkdir()
    (root / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    def write(**modules):
        for name, text in modules.items():
            (root / f"{name}.py").write_text(textwrap.dedent(text))

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == "turnkeep_acme"]:
        del sys.modules[name]


def test_an_adapter_is_imported_when_it_is_asked_for(package):
    package(
        adapter="""
            from turnkeep.memory import MemoryAdapter
            class Acme(MemoryAdapter):
                class Inner(MemoryAdapter): ...
        """
    )
    plugins = Plugins(
        [Adapters(acme="turnkeep_acme.adapter:Acme", inner="turnkeep_acme.adapter:Acme.Inner")], autoload=False
    )
    assert "turnkeep_acme" not in sys.modules
    assert issubclass(plugins.adapter_class("acme"), StorageAdapter)
    assert plugins.adapter_class("inner").__qualname__ == "Acme.Inner"


@pytest.mark.parametrize("text", ["import no_such_driver.inner", "from json import no_such_name"])
def test_a_driver_that_is_missing_has_its_pip_line(package, announce, text):
    package(adapter=text)
    announce(acme=Adapters(acme="turnkeep_acme.adapter:Acme"))
    module = "no_such_driver" if "driver" in text else "json"
    expected = f"the adapter for acme needs the module '{module}': pip install turnkeep-acme"
    with pytest.raises(MissingDriver, match=expected) as caught:
        Plugins().adapter_class("acme")
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value.__cause__, ImportError)
    plugins = Plugins([Adapters(acme="turnkeep_acme.adapter:Acme")], autoload=False)
    with pytest.raises(MissingDriver, match="install what provides it"):
        plugins.adapter_class("acme")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("from turnkeep_acme import no_such_thing", "ImportError: cannot import name 'no_such_thing'"),
        ("import turnkeep_acme.absent", "ModuleNotFoundError: No module named 'turnkeep_acme.absent'"),
        ("from turnkeep.contract import NotYet", "ImportError: cannot import name 'NotYet' from 'turnkeep.contract'"),
        ("raise ImportError('by hand')", "ImportError: by hand"),
        ("1 / 0", "ZeroDivisionError"),
        ("this is no python", "SyntaxError"),
        ("", "AttributeError: module 'turnkeep_acme.adapter' has no attribute 'Acme'"),
        ("Acme = dict", "offers <class 'dict'> for acme: no StorageAdapter"),
        ("from turnkeep.memory import MemoryAdapter\nAcme = MemoryAdapter()", "no StorageAdapter"),
        (
            "from turnkeep.memory import MemoryAdapter\nclass Acme(MemoryAdapter):\n    contract_version = 2",
            "made for version 2 of the storage contract, this turnkeep has 1",
        ),
    ],
)
def test_an_adapter_at_fault_is_named(package, announce, text, reason):
    package(adapter=text)
    announce(acme=Adapters(acme="turnkeep_acme.adapter:Acme"))
    with pytest.raises(PluginLoadError, match=reason) as caught:
        Plugins().adapter_class("acme")
    assert "'acme' (turnkeep-acme)" in str(caught.value)


# Providers


def test_providers_are_found_by_name(package):
    package(provider="def make(): ...\nnothing = 1")
    plugins = Plugins(
        [Provides(acme="turnkeep_acme.provider:make", local=print, odd="turnkeep_acme.provider:nothing")],
        autoload=False,
    )
    assert plugins.provider_names == ("acme", "guided", "local", "odd")
    assert plugins.provider_class("acme").__name__ == "make"
    assert plugins.provider_class("local") is print
    with pytest.raises(PluginLoadError, match="offers 1 as provider 'odd'"):
        plugins.provider_class("odd")
    with pytest.raises(InvalidArgument, match=r"no provider 'acmee': did you mean acme\? Installed: acme, guided"):
        plugins.provider_class("acmee")


# The payload filter


def test_there_is_one_payload_filter_or_none(announce):
    assert Plugins().payload_filter is None
    given = Reversing()
    plugins = Plugins([Filters("sealing", given)])
    assert plugins.payload_filter is given
    assert isinstance(given, PayloadFilter)
    assert plugins.report()[-1].payload_filter == "reversing"
    assert plugins.extended().payload_filter is given
    announce(other=Filters())
    with pytest.raises(PluginLoadError, match=r"'other' \(turnkeep-other\) and 'sealing' offer one each.*=sealing"):
        _ = Plugins([Filters("sealing")]).payload_filter
    assert Plugins(blocked=["other"]).payload_filter is None


def test_one_plugin_cannot_register_two_filters():
    class Two:
        @hookimpl
        def register_payload_filter(self, register):
            register(Reversing())
            register(Reversing())

    with pytest.raises(PluginLoadError, match="'Two' and 'Two'"):
        _ = Plugins([Two()], autoload=False).payload_filter


def test_nothing_is_stored_in_the_clear_because_the_filter_is_broken(announce):
    class Sealing(Filters):
        @hookimpl
        def on_sesion_created(self): ...

    announce(sealing=Sealing())
    plugins = Plugins()
    assert plugins.adapter_class("memory") is MemoryAdapter
    with pytest.raises(PluginLoadError, match="'sealing'"):
        _ = plugins.payload_filter


# Reports


def test_the_report_tells_everything(announce):
    class Everything(Adapters):
        @hookimpl
        def register_providers(self, register):
            register("acme", print)

        @hookimpl
        async def on_session_created(self): ...

    announce(acme=Everything(acme=Other), broken=ImportError("gone"))
    report = {item.name: item for item in Plugins([Watching("mine", [])], blocked=["none"]).report()}
    assert list(report) == ["turnkeep", "acme", "broken", "mine"]
    assert dataclasses.asdict(report["acme"]) == {
        "name": "acme",
        "kind": "discovered",
        "distribution": "turnkeep-acme",
        "version": "1.2",
        "hooks": ("on_session_created", "register_adapters", "register_providers"),
        "schemes": ("acme",),
        "providers": ("acme",),
        "payload_filter": None,
        "error": None,
        "blocked": False,
    }
    assert report["broken"].error == "plugin 'broken' (turnkeep-broken) is broken: ImportError: gone"
    assert (report["mine"].kind, report["mine"].hooks) == ("given", ("on_session_created",))


def test_a_module_is_named_for_itself():
    module = types.ModuleType("acme_plugin")
    module.on_startup = hookimpl(lambda: None)
    assert Plugins([module], autoload=False).report()[-1].name == "acme_plugin"


# Real entry points, in processes of their own


def run(code, *paths, **environment):
    source = pathlib.Path(_discovery.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env={
            **{key: value for key, value in os.environ.items() if key != "TURNKEEP_BLOCKED_PLUGINS"},
            "PYTHONPATH": os.pathsep.join(map(str, (source, *paths))),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def install(site, distribution, version, points, **modules):
    """What pip leaves behind of a distribution."""
    metadata = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    lines = "\n".join(f"{name} = {value}" for name, value in points.items())
    (metadata / "entry_points.txt").write_text(f"[turnkeep]\n{lines}\n")
    for name, text in modules.items():
        (site / f"{name}.py").write_text(textwrap.dedent(text))


GOOD = """
    import turnkeep.hookspecs

    @turnkeep.hookspecs.hookimpl
    def register_adapters(register):
        register("acme", "acme_adapter:AcmeAdapter")
"""


@pytest.fixture
def site(tmp_path):
    site = tmp_path / "site"
    install(
        site,
        "turnkeep-acme",
        "2.5",
        {"acme": "acme_plugin"},
        acme_plugin=GOOD,
        acme_adapter="from turnkeep.memory import MemoryAdapter\nclass AcmeAdapter(MemoryAdapter): ...",
    )
    install(site, "turnkeep-bad", "0.1", {"bad": "bad_plugin"}, bad_plugin="import no_such_module")
    install(site, "elsewhere", "1", {}, unrelated="")
    return site


def test_installed_plugins_are_found_and_a_broken_one_is_named(site):
    code = """
        import sys
        from turnkeep.plugins import Plugins
        plugins = Plugins(allowed=["acme", "bad"])
        assert "acme_plugin" in sys.modules and "acme_adapter" not in sys.modules
        print(plugins.adapter_class("acme").__module__)
        for report in plugins.report()[1:]:
            if not report.blocked:
                print(report.name, report.distribution, report.version, report.schemes, report.error)
        try:
            plugins.adapter_class("bad")
        except Exception as error:
            print(type(error).__name__, error.plugin)
    """
    missing = "ModuleNotFoundError: No module named 'no_such_module'"
    assert run(code, site).splitlines() == [
        "acme_adapter",
        "acme turnkeep-acme 2.5 ('acme',) None",
        f"bad turnkeep-bad 0.1 () plugin 'bad' (turnkeep-bad) is broken: {missing}",
        "PluginLoadError bad",
    ]


def test_the_environment_blocks(site):
    code = """
        import sys
        from turnkeep.plugins import Plugins
        plugins = Plugins()
        print([name for name in ("acme", "bad") if name in plugins.schemes], "acme_plugin" in sys.modules)
    """
    assert run(code, site, TURNKEEP_BLOCKED_PLUGINS="acme,bad") == "[] False"


def test_entry_points_are_looked_up_once(site):
    code = """
        import importlib_metadata
        from turnkeep.plugins import Plugins
        lookups = []
        real = importlib_metadata.entry_points
        importlib_metadata.entry_points = lambda **kw: lookups.append(kw) or real(**kw)
        Plugins(blocked=["bad"]); Plugins(blocked=["bad"]).extended()
        print(lookups)
    """
    assert run(code, site) == "[{'group': 'turnkeep'}]"
