import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from turnkeep_cli.output import as_text, count, plain, print_json, safe
from turnkeep_cli.stores import show_store, to_url


def test_safe():
    assert safe("a\x00b\x1b[0m\x7f\x9b\n\t") == r"a\x00b\x1b[0m\x7f\x9b\n\t"
    assert safe("a\r\nb\rc\td", lines=True) == "a\nb\\rc\td"
    assert safe("\u2028\u202e\u2066\ud800") == r"\u2028\u202e\u2066\ud800"
    assert safe("José 👩\u200d🍳 [red]") == "José 👩\u200d🍳 [red]"


def test_plain(capsys):
    value = {
        "when": datetime(2026, 1, 2, 3, tzinfo=UTC),
        "day": date(2026, 1, 2),
        "age": timedelta(minutes=1),
        "price": Decimal("1.10"),
        "id": UUID(int=1),
        "raw": b"\xff",
        "both": (1, {2, 1}),
        "none": float("nan"),
        "half": "\ud800",
        "big": 2**70,
    }
    print_json(value)
    shown = capsys.readouterr().out
    assert shown.isascii()
    assert json.loads(shown) == {
        "when": "2026-01-02T03:00:00+00:00",
        "day": "2026-01-02",
        "age": 60.0,
        "price": "1.10",
        "id": "00000000-0000-0000-0000-000000000001",
        "raw": "/w==",
        "both": [1, [1, 2]],
        "none": "nan",
        "half": "\ud800",
        "big": 2**70,
    }
    assert plain(True) is True
    assert as_text("text") == "text"
    assert as_text(date(2026, 1, 2)) == "2026-01-02"
    assert as_text({"a": None}) == '{"a": null}'
    assert (count(1, "message"), count(2000, "message")) == ("1 message", "2,000 messages")


def test_to_url(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert to_url("chat.db") == f"sqlite:///{tmp_path}/chat.db"
    assert to_url("/a b/#1%20?&é.db") == "sqlite:////a%20b/%231%2520%3F%26%C3%A9.db"
    assert to_url("redis://h/0") == "redis://h/0"
    assert to_url("./a:b.db") == f"sqlite:///{tmp_path}/a:b.db".replace(":b", "%3Ab")
    monkeypatch.setenv("HOME", "/home/ana")
    assert to_url("~/chat.db") == "sqlite:////home/ana/chat.db"


@pytest.mark.parametrize(("store", "shown"), [("a.db", "a.db"), ("redis://u:p@h/0?x=y", "redis://u:***@h/0?x=***")])
def test_show_store(store, shown):
    assert show_store(store) == shown
