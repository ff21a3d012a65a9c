"""A test of the kit that an adapter leaves out, or is allowed to fail, needs a reason that people can read.

What may be overridden freely are fixtures, hooks such as ``remains`` and attributes such as ``deadline``. A test may be
overridden to say that it is known to fail, and why; it then shows in the report:

    @pytest.mark.xfail(reason="the server's clock has milliseconds: #12")
    def test_g14_instants(self): ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

KIT: Final = "turnkeep_testkit."
"""Where the kit's own suites are."""

_EXCUSING: Final = ("skip", "skipif", "xfail")


class UnexplainedOverride(TypeError):
    """A class that overrides a test of the kit does not say why."""


def require_reasons(suite: type) -> None:
    """Looks at a class derived from a suite, when it is made.

    Raises:
        UnexplainedOverride: it, or a class it builds on, overrides a test of the kit without ``xfail(reason=…)``.
    """
    if _is_kit(suite):
        return
    overridden = {name: _owner(suite, name) for name in sorted(_kit_tests(suite))}
    unexplained = [
        f"{owner.__qualname__}.{name}"
        for name, owner in overridden.items()
        if not _is_kit(owner) and not _is_expected_to_fail(vars(owner)[name])
    ]
    if unexplained:
        raise UnexplainedOverride(
            f"{', '.join(unexplained)}: this overrides a test that every adapter has to pass. If it is known to fail, "
            'say why: decorate the override with @pytest.mark.xfail(reason="…"). If the adapter cannot do it, declare '
            "the capability; what fixtures and hooks there are to override stands in the README of turnkeep-testkit."
        )


def kit_owner(suite: type, name: str) -> type | None:
    """The class of the kit that brought this test to the suite; None for a test of the author's own."""
    owners = [base for base in suite.__mro__ if name in vars(base) and _is_kit(base)]
    return owners[0] if owners else None


def missing_reason(marks: Iterable[pytest.Mark]) -> str:
    """The name of the first mark that skips or excuses a test without a reason; "" where there is none."""
    for mark in marks:
        if mark.name in _EXCUSING and not _reason(mark):
            return mark.name
    return ""


def _reason(mark: pytest.Mark) -> str:
    reason: Any = mark.kwargs.get("reason", mark.args[0] if mark.name == "skip" and mark.args else "")
    return reason.strip() if isinstance(reason, str) else ""


def _is_expected_to_fail(test: object) -> bool:
    marks: list[pytest.Mark] = getattr(test, "pytestmark", [])
    return any(mark.name == "xfail" and _reason(mark) for mark in marks)


def _is_kit(owner: type) -> bool:
    return owner.__module__.startswith(KIT)


def _kit_tests(suite: type) -> set[str]:
    return {name for base in suite.__mro__ if _is_kit(base) for name in vars(base) if name.startswith("test")}


def _owner(suite: type, name: str) -> type:
    return next(base for base in suite.__mro__ if name in vars(base))
