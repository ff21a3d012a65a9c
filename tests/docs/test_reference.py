"""The reference knows every public name, hook, error, command, option, limit, tag, capability, and no others."""

import re
from importlib import import_module

import pytest

import turnkeep
import turnkeep.outbox
import turnkeep.providers
import turnkeep.repositories
import turnkeep.sync
from turnkeep import codec, errors, hookspecs
from turnkeep_testkit import faults, sizes, suites

from .pages import DOCS, REFERENCE, code, read, rows

MODULES = [turnkeep, turnkeep.outbox, turnkeep.providers, turnkeep.repositories, turnkeep.sync]
IDENTIFIERS = re.findall(r"^::: ([\w.]+)$", "\n".join(map(read, REFERENCE)), re.MULTILINE)


def find(path):
    """The object that a page of the reference shows."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except AttributeError:
        return import_module(path)


def names(module):
    return sorted(
        name for name in module.__all__ if not (isinstance(getattr(module, name), type) and _is_error(module, name))
    )


def _is_error(module, name):
    return issubclass(getattr(module, name), errors.TurnkeepError)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_name_has_its_place(module):
    shown = {identifier.rpartition(".")[2] for identifier in IDENTIFIERS}
    alias = {"FieldProblems"}  # a dict[str, str]: told of where it is taken
    assert [name for name in names(module) if name not in shown | alias] == []


@pytest.mark.parametrize("identifier", IDENTIFIERS)
def test_what_is_shown_is_there(identifier):
    assert find(identifier) is not None


def test_no_name_is_shown_twice():
    assert len(IDENTIFIERS) == len(set(IDENTIFIERS))


@pytest.mark.parametrize("identifier", [item for item in IDENTIFIERS if isinstance(find(item), type)])
def test_what_is_shown_is_described(identifier):
    assert (find(identifier).__doc__ or "").strip()


# Hooks


def test_every_hook_has_its_heading_with_its_exact_arguments():
    headings = re.findall(r"^### `(\w+)\((.*?)\)` \{ #(\w+) .*\}$", read(DOCS / "reference/hooks.md"), re.MULTILINE)
    shown = {name: tuple(filter(None, arguments.split(", "))) for name, arguments, _ in headings}
    assert shown == dict(hookspecs.HOOKS)
    assert [name for name, _, _ in headings] == list(hookspecs.HOOKS), "in the order of turnkeep.hookspecs"
    assert all(name == anchor for name, _, anchor in headings)


# Errors


def tree():
    def walk(kind, depth):
        yield kind, depth
        for child in kind.__subclasses__():
            if child.__module__ == "turnkeep.errors":
                yield from walk(child, depth + 1)

    return [(kind.__name__, max(depth - 1, 0)) for kind, depth in walk(errors.TurnkeepError, 0)]


def test_every_error_stands_in_the_tree():
    table = [row for row in rows(DOCS / "reference/errors.md") if "`" in row[0]]
    assert [(re.search(r"`(\w+)`", row[0])[1], row[0].count("·")) for row in table] == tree()


def test_every_error_tells_what_else_it_is():
    for row in rows(DOCS / "reference/errors.md"):
        kind = getattr(errors, re.search(r"`(\w+)`", row[0])[1])
        other = [base.__name__ for base in kind.__bases__ if not issubclass(base, errors.TurnkeepError)]
        if kind is not errors.TurnkeepError:
            assert re.findall(r"`(\w+)`", row[2]) == other, kind.__name__


def test_every_error_is_importable_from_turnkeep():
    assert {name for name, _ in tree()} <= set(turnkeep.__all__)


# The command line


def commands():
    import typer.main

    from turnkeep_cli.commands import app

    def walk(command, path):
        children = getattr(command, "commands", None)
        if children is None:
            yield path, command
        for name, child in (children or {}).items():
            yield from walk(child, f"{path} {name}")

    return dict(walk(typer.main.get_command(app), "turnkeep"))


def test_every_command_has_its_heading():
    headings = re.findall(r"^## `(turnkeep [a-z ]+?)(?: [A-Z\[].*)?`$", read(DOCS / "reference/cli.md"), re.MULTILINE)
    assert sorted(headings) == sorted(commands())


def test_every_option_is_told():
    page = read(DOCS / "reference/cli.md")
    for path, command in commands().items():
        section = re.search(rf"^## `{path}\b.*?(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)[0]
        options = {option for item in command.params for option in item.opts if option.startswith("--")} - {"--help"}
        assert options == set(re.findall(r"`(--[a-z-]+)", section)), path


# Values


def test_every_limit_is_told_with_its_default():
    table = {row[0].strip("`"): row[1] for row in rows(DOCS / "reference/limits.md") if len(row) == 4}
    shown = {name: int(re.match(r"[\d,]+", value)[0].replace(",", "")) for name, value in table.items()}
    limits = turnkeep.Limits()
    assert shown == {name: getattr(limits, name) for name in turnkeep.Limits.__dataclass_fields__}


def test_every_tag_is_told():
    section = read(DOCS / "reference/stored-form.md").partition("| Tag |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(codec._UNPACKERS)


def test_every_capability_is_told_as_it_is_declared():
    from turnkeep.connecting import build

    urls = [
        "memory://",
        "sqlite:///capabilities.db",
        "postgresql://localhost/app",
        "sqlalchemy+sqlite+aiosqlite:///capabilities.db",
        "redis://localhost",
        "mongodb://localhost/app",
        "opensearch://localhost",
    ]
    adapters = [build(url).adapter for url in urls]
    table = {row[0].strip("`"): row[1:] for row in rows(DOCS / "reference/adapters.md") if row[0].strip("`").isupper()}
    assert list(table) == list(turnkeep.Capability.__members__)
    for name, cells in table.items():
        declared = [adapter.supports(turnkeep.Capability[name]).level.value for adapter in adapters]
        assert [re.match(r"\w+", cell)[0] for cell in cells] == declared, name


def test_every_argument_of_connect_is_told():
    import inspect

    table = [row[0] for row in rows(DOCS / "how-to/open-a-store.md")]
    shown = set(re.findall(r"`(\w+)=", " ".join(table)))
    assert set(inspect.signature(turnkeep.connect).parameters) - {"url_or_adapter"} <= shown


# The original's calls


def test_every_call_of_the_original_is_run():
    page = DOCS / "reference/seed.md"
    called = set(re.findall(r"\b([A-Za-z_]\w*)\b", code(page)))
    for there, here in (row for row in rows(page) if len(row) == 2):
        for name in re.findall(r"\b([A-Za-z_]\w*)(?=\()", " ".join(re.findall(r"`([^`]*)`", here))):
            assert name in called, f"{there} → {here}: {name} is not run on the page"


def test_every_suite_is_told():
    import turnkeep_testkit

    suites = {name for name in turnkeep_testkit.__all__ if name.endswith("Suite")}
    assert suites <= set(re.findall(r"`(\w+Suite)`", read(DOCS / "reference/testkit.md")))


# Test kit


def test_the_sizes_of_the_fault_suites_are_those_of_the_kit():
    page = {row[0]: row[1:] for row in rows(DOCS / "reference/testkit.md") if row[0] in sizes.SIZES}
    assert page == {plan: [size.what, f"{size.everyday:,}", f"{size.campaign:,}"] for plan, size in sizes.SIZES.items()}


def test_every_suite_is_listed():
    shown = set(re.findall(r"`(\w+Suite)`", read(DOCS / "reference/testkit.md")))
    made = {name for module in (faults, suites) for name in module.__all__ if name.endswith("Suite")}
    assert shown == made - {"Suite"}
