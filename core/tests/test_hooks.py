"""What fits a hook: names, arguments, kinds of callables; and ``Hooks``."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import pathlib
import re
import types

import pluggy
import pytest

from turnkeep import hookspecs
from turnkeep._binding import Listener, Rank, implementations
from turnkeep._calls import HookCalls
from turnkeep.errors import HookError, PluginLoadError
from turnkeep.hooks import Hooks, SessionView
from turnkeep.hookspecs import HOOKS, hookimpl
from turnkeep.models import SessionState

CALLED = {name for name in HOOKS if not name.startswith("register_")}
ARGUMENTS = {"context": {"c": 1}, "previous": {"p": 1}, "session": "s"}


def call(function, hook="on_context_update", arguments=ARGUMENTS):
    return Listener.of(function, hook, plugin="p", rank=Rank.NORMAL).call(arguments)


# The specs


def test_the_hooks_are_those_of_the_design():
    assert dict(HOOKS) == {
        "register_adapters": ("register",),
        "register_providers": ("register",),
        "register_payload_filter": ("register",),
        "before_commit": ("turn", "session"),
        "on_storage_operation": ("operation", "duration", "size", "outcome"),
        "on_conflict": ("session", "expected", "actual", "attempt"),
        "on_storage_error": ("operation", "error", "session"),
        "before_message_save": ("message", "session"),
        "on_messages_appended": ("messages", "session"),
        "before_provider_call": ("history", "session"),
        "before_respond": ("context", "session"),
        "after_respond": ("reply", "context", "session"),
        "on_context_update": ("context", "previous", "session"),
        "before_data_update": ("data", "previous", "session"),
        "on_session_created": ("session",),
        "on_session_loaded": ("session",),
        "on_session_completed": ("session",),
        "on_session_deleted": ("session",),
        "on_session_committed": ("session", "turn"),
        "on_route_entered": ("route", "session"),
        "on_route_completed": ("route", "session"),
        "on_startup": ("persistence",),
        "on_shutdown": ("persistence",),
    }


@pytest.mark.parametrize("hook", sorted(HOOKS))
def test_every_hook_promises_something(hook):
    assert len(inspect.getdoc(getattr(hookspecs, hook)).split()) > 8


def test_the_specs_are_plain_pluggy_specs():
    manager = pluggy.PluginManager("turnkeep")
    manager.add_hookspecs(hookspecs)
    assert set(vars(manager.hook)) - {"_hookspecs"} >= set(HOOKS)
    for name, arguments in HOOKS.items():
        spec = getattr(manager.hook, name).spec
        assert tuple(spec.argnames) == arguments
        assert not spec.opts["firstresult"]
        assert not spec.opts["historic"]


@pytest.mark.parametrize("hook", sorted(CALLED))
def test_every_hook_has_its_typed_method(hook):
    parameters = list(inspect.signature(getattr(HookCalls, hook)).parameters)
    assert tuple(parameters[1:]) == HOOKS[hook]
    assert inspect.iscoroutinefunction(getattr(HookCalls, hook))


def test_results_of_hooks_are_awaited_in_one_file():
    package = pathlib.Path(inspect.getfile(hookspecs)).parent
    found = {path.name for path in package.rglob("*.py") if "isawaitable" in path.read_text()}
    assert "_dispatch.py" in found
    machinery = {"_binding.py", "_calls.py", "_registry.py", "_discovery.py", "hooks.py", "plugins.py"}
    assert not found & machinery


# The binder


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda: "none", "none"),
        (lambda session: session, "s"),
        (lambda session, context: (session, context), ("s", {"c": 1})),
        (lambda *, previous: previous, {"p": 1}),
        (lambda **everything: everything, ARGUMENTS),
        (lambda session, **rest: (session, sorted(rest)), ("s", ["context", "previous"])),
        (lambda session=None: session, "s"),
        (lambda session, database="default": (session, database), ("s", "default")),
        (lambda position=1, /, session=None: (position, session), (1, "s")),
        (lambda *args, session: (args, session), ((), "s")),
        (functools.partial(lambda database, session: (database, session), "db"), ("db", "s")),
        (functools.partial(lambda database, session: (database, session), database="db"), ("db", "s")),
        (functools.partial(lambda context, session: (context, session), context="mine"), ("mine", "s")),
        (functools.partial(lambda **all: all, session="mine"), {**ARGUMENTS, "session": "mine"}),
    ],
)
def test_a_function_gets_the_arguments_it_names(function, expected):
    assert call(function) == expected


class Methods:
    def bound(self, session):
        return (self, session)

    @classmethod
    def of_class(cls, session):
        return (cls, session)

    @staticmethod
    def static(session):
        return session

    def __call__(self, session):
        return (self, session)


def test_methods_and_callable_objects_fit_too():
    one = Methods()
    assert call(one.bound) == (one, "s")
    assert call(one) == (one, "s")
    assert call(Methods.of_class) == (Methods, "s")
    assert call(Methods.static) == "s"


def test_decorated_functions_show_what_they_wrap():
    def logged(function):
        @functools.wraps(function)
        def inner(*args, **kwargs):
            return function(*args, **kwargs)

        return inner

    assert call(logged(lambda session: session)) == "s"


class Made:
    def __init__(self, session):
        self.session = session


class Awaitable:
    async def __call__(self, session):
        return session


async def a_coroutine(session):
    return session


@pytest.mark.parametrize(
    ("function", "is_async"),
    [
        (a_coroutine, True),
        (functools.partial(a_coroutine), True),
        (Awaitable(), True),
        (functools.partial(Awaitable()), True),
        (Methods(), False),
        (print, False),
        (Made, False),
    ],
)
def test_the_colour_is_known_before_the_call(function, is_async):
    assert Listener.of(function, "on_session_created", plugin="p", rank=Rank.NORMAL).is_async is is_async


def a_generator(session):
    yield session


async def an_async_generator(session):
    yield session


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda sesion: None, "asks for 'sesion', which this hook does not have"),
        (lambda *, database: None, "asks for 'database'"),
        (lambda session, /: None, "takes 'session' by position only"),
        (a_generator, "is a generator"),
        (an_async_generator, "is a generator"),
        (functools.partial(a_generator), "is a generator"),
        ("on_context_update", "must be a function, not str"),
        (3, "must be a function, not int"),
        (dict.fromkeys, "by position only"),
    ],
)
def test_what_does_not_fit_is_refused_and_told_what_does(function, reason):
    with pytest.raises(HookError) as caught:
        call(function)
    message = str(caught.value)
    assert reason in message
    assert "on_context_update of 'p'" in message
    assert "context, previous, session" in message
    assert (caught.value.plugin, caught.value.hook) == ("p", "on_context_update")


def test_a_callable_without_a_signature_is_refused():
    class Opaque:
        @property
        def __signature__(self):
            raise ValueError("none")

        def __call__(self): ...

    with pytest.raises(HookError, match="no readable signature"):
        call(Opaque())


# Plugins


def test_marks_are_read_from_objects_their_classes_and_modules():
    class Base:
        @hookimpl
        def on_startup(self): ...

    class Derived(Base):
        @hookimpl(tryfirst=True)
        def on_session_created(self): ...

        @staticmethod
        @hookimpl(trylast=True)
        def on_session_deleted(session): ...

        @hookimpl(specname="on_shutdown")
        def close(self): ...

        def on_session_loaded(self): ...

        @property
        def expensive(self):
            raise AssertionError("evaluated")

    ranks = {item.hook: item.rank for item in implementations(Derived(), "derived")}
    assert ranks == {
        "on_startup": Rank.NORMAL,
        "on_session_created": Rank.FIRST,
        "on_session_deleted": Rank.LAST,
        "on_shutdown": Rank.NORMAL,
    }
    module = types.ModuleType("acme")
    module.on_startup = hookimpl(lambda persistence: persistence)
    module.hookimpl = hookimpl
    (found,) = implementations(module, "acme")
    assert found.call({"persistence": 7}) == 7


def test_functions_put_on_an_instance_are_found():
    plugin = types.SimpleNamespace(on_startup=hookimpl(lambda persistence: persistence))
    (found,) = implementations(plugin, "x")
    assert found.call({"persistence": 7}) == 7
    with pytest.raises(PluginLoadError):
        implementations(types.SimpleNamespace(), "y")


def test_one_class_is_read_once_and_each_instance_bound():
    class Plugin:
        @hookimpl
        def on_startup(self):
            return self

    one, two = Plugin(), Plugin()
    assert [implementations(each, "p")[0].call({"persistence": None}) for each in (one, two)] == [one, two]


def test_a_misspelt_hook_is_refused_and_the_nearest_named():
    class Typo:
        @hookimpl
        def on_sesion_created(self, session): ...

    with pytest.raises(
        HookError, match=r"typo: there is no hook 'on_sesion_created'; did you mean on_session_created\?"
    ):
        implementations(Typo(), "typo")


def test_an_optional_hook_may_be_unknown():
    class Newer:
        @hookimpl(optionalhook=True)
        def on_session_forked(self, session): ...

    assert implementations(Newer(), "newer") == []


def make_wrapper(**options):
    class Wrapping:
        @hookimpl(**options)
        def on_startup(self):
            yield

    return Wrapping()


@pytest.mark.parametrize("options", [{"wrapper": True}, {"hookwrapper": True}])
def test_wrappers_are_refused(options):
    with pytest.raises(HookError, match="on_startup of 'w' is a wrapper"):
        implementations(make_wrapper(**options), "w")


def test_an_unmarked_object_is_no_plugin():
    with pytest.raises(PluginLoadError, match=r"'bare' implements no hook.*@turnkeep\.hookimpl"):
        implementations(Methods(), "bare")
    with pytest.raises(PluginLoadError, match=r"the class Methods; hand over an instance: Methods\(\)"):
        implementations(Methods, "cls")


def test_a_register_hook_must_be_plain():
    class Async:
        @hookimpl
        async def register_adapters(self, register): ...

    with pytest.raises(HookError, match="register_adapters of 'a' must be a plain function"):
        implementations(Async(), "a")


# Hooks


def test_the_fields_of_hooks_are_the_hooks():
    assert {field.name for field in dataclasses.fields(Hooks) if field.init} == CALLED


@pytest.mark.parametrize("hook", sorted(CALLED))
def test_each_field_binds_its_function(hook):
    hooks = Hooks(**{hook: lambda **arguments: arguments})
    (found,) = hooks.listeners
    assert (found.hook, found.plugin, found.rank) == (hook, "Hooks", Rank.APPLICATION)
    arguments = dict.fromkeys(HOOKS[hook], 1)
    assert found.call(arguments) == arguments


@pytest.mark.parametrize("name", ["before_repsond", "register_adapters", "nonsense"])
def test_an_unknown_field_is_refused(name):
    with pytest.raises(HookError, match=f"there is no hook '{name}'") as caught:
        Hooks(**{name: print})
    assert "before_respond" in str(caught.value)
    assert "did you mean before_respond?" in str(caught.value) or name != "before_repsond"


def test_hooks_are_judged_when_they_are_made():
    with pytest.raises(HookError, match=r"before_respond of 'Hooks' asks for 'ctx'.*context, session"):
        Hooks(before_respond=lambda ctx: ctx)
    with pytest.raises(HookError, match="must be a function, not dict"):
        Hooks(before_respond={})
    with pytest.raises(TypeError):
        Hooks(print)


def test_hooks_are_a_value():
    hooks = Hooks(on_startup=print)
    assert hooks == Hooks(on_startup=print)
    assert hooks != Hooks()
    assert copy.deepcopy(hooks) == hooks
    changed = dataclasses.replace(hooks, on_shutdown=print)
    assert [item.hook for item in changed.listeners] == ["on_startup", "on_shutdown"]
    assert "listeners" not in repr(hooks)
    with pytest.raises(dataclasses.FrozenInstanceError):
        hooks.on_startup = None


# The view


def test_a_view_of_a_session_gives_copies():
    state = SessionState("s1", user_id="ana", data={"guests": [1]})
    view = SessionView.of(state, "support")
    assert (view.id, view.user_id, view.namespace, view.state) == ("s1", "ana", "support", state)
    view.data["guests"].append(2)
    assert view.data == {"guests": [1]}
    assert SessionView("s1", None, "support").data == {}
    assert not hasattr(view, "__dict__")


def test_the_module_docstring_names_no_hook_that_is_not_there():
    named = set(re.findall(r"``((?:before|on|after|register)_[a-z_]+)``", hookspecs.__doc__))
    assert named <= set(HOOKS)
