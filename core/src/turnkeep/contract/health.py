"""Whether a database can keep its promises."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. ``fix`` says what to do about it; a ``warning`` leaves the report ok."""

    name: str
    ok: bool
    detail: str
    fix: str = ""
    warning: bool = False


@dataclass(frozen=True, slots=True)
class HealthReport:
    """Whether the database can keep its promises, line by line."""

    adapter: str
    checks: tuple[Check, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong. Warnings do not count."""
        return all(check.ok or check.warning for check in self.checks)

    def __str__(self) -> str:
        marks = {(True, False): "ok", (True, True): "ok", (False, True): "warning", (False, False): "WRONG"}
        return "\n".join(
            f"{marks[check.ok, check.warning]:8}{check.name}: {check.detail}{f' → {check.fix}' if check.fix else ''}"
            for check in self.checks
        )
