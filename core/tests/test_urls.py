from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkeep.errors import ConfigurationError, InvalidArgument
from turnkeep.urls import StorageURL, duration, parse_count, parse_flag, parse_seconds, parse_text
from turnkeep_testkit import hostile
from turnkeep_testkit.hostile import Place

SECRET = "s3cret"


def test_the_parts_of_a_url():
    url = StorageURL("PostgreSQL://app:p%40ss@db.example:5433/some%20db?a=1&b=%2F")
    assert (url.scheme, url.username, url.password) == ("postgresql", "app", "p@ss")
    assert (url.host, url.port, url.path) == ("db.example", 5433, "/some db")
    assert url.rest() == {"a": "1", "b": "/"}


def test_what_is_absent_is_none():
    url = StorageURL("memory://")
    assert (url.username, url.password, url.host, url.port, url.path) == (None, None, None, None, "")
    url.expect_no_location()
    url.finish()


@pytest.mark.parametrize(
    ("text", "path"),
    [("sqlite:///a.db", "/a.db"), ("sqlite:////tmp/a.db", "//tmp/a.db"), ("sqlite:///a%3Fb%23.db", "/a?b#.db")],
)
def test_paths_of_files(text, path):
    assert StorageURL(text).path == path


def test_several_hosts():
    url = StorageURL("redis+sentinel://u:p@one:1,two:2/0")
    assert (url.host, url.port, url.password) == ("one:1,two:2", None, "p")


def test_an_address_of_version_6():
    url = StorageURL("redis://u:p@[::1]:6379/0")
    assert (url.host, url.port) == ("::1", 6379)
    assert str(url) == "redis://u:***@[::1]:6379/0"


def test_a_user_without_a_name():
    url = StorageURL(f"redis://:{SECRET}@h/0")
    assert (url.username, url.password) == ("", SECRET)
    assert str(url) == "redis://:***@h/0"


@pytest.mark.parametrize("case", hostile.cases(Place.URL), ids=str)
def test_hostile_urls_are_refused_without_their_secrets(case):
    with pytest.raises(InvalidArgument) as caught:
        StorageURL(case.value).expect_no_location()
    _expect_no_secret(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "memory", "memory:", "memory:/", "a.db", "C:\\a.db", None, 7, b"memory://", "memory://?x", "memory://?a=1&&b",
     "memory://?=1&a", "redis://h:70000/", "redis://h:-1/", "redis://[::1/", "redis://h/#1"],
    ids=repr,
)  # fmt: skip
def test_what_is_no_url(text):
    with pytest.raises(InvalidArgument):
        StorageURL(text)


SECRETS = [
    f"redis://user:{SECRET}@host/0",
    f"redis://:{SECRET}@host/0",
    f"redis://host/0?password={SECRET}",
    f"redis://host/0?api_key={SECRET}&ssl=true",
    f"redis://user:{SECRET}@one:1,two:2/0?sentinel_password={SECRET}",
    f"redis://user:a%40{SECRET}%2F@host:6379/0",
]


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_in_no_repr(text):
    url = StorageURL(text)
    for shown in (str(url), repr(url), f"{url}", f"{url!r}", "%s" % url):  # noqa: UP031 - every way of showing it
        assert SECRET not in shown
        assert "host" in shown or "one:1" in shown
        assert "***" in shown


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_in_no_error(text):
    for use in (StorageURL.finish, StorageURL.expect_no_location, lambda url: url.take("ssl", parse_count, 0)):
        url = StorageURL(text)
        try:
            use(url)
        except ConfigurationError as error:
            _expect_no_secret(error)


@pytest.mark.parametrize(
    "text",
    [f"redis://u:{SECRET}@host:x{SECRET}/0", f"redis://u:{SECRET}@[::1", f"redis://u:{SECRET}@h/#{SECRET}",
     f"redis://u:{SECRET}@h/?{SECRET}", f"redis://u:{SECRET}@h:99999/", f"redis://u:{SECRET}/x@h/0"],
)  # fmt: skip
def test_urls_that_cannot_be_parsed_show_no_secret(text):
    with pytest.raises(InvalidArgument) as caught:
        StorageURL(text)
    _expect_no_secret(caught.value)


def _expect_no_secret(error):
    shown = []
    while error is not None:
        shown += [str(error), repr(error), repr(error.args)]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert SECRET not in "".join(shown)


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_password_is_kept_and_hidden(user, password):
    from urllib.parse import quote

    try:
        text = f"redis://{quote(user, safe='')}:{quote('pw-' + password, safe='')}@host/0"
    except UnicodeEncodeError:
        return
    url = StorageURL(text)
    assert (url.username, url.password) == (user, "pw-" + password)
    assert "pw-" not in str(url).replace(quote(user, safe=""), "")


def test_options_are_taken_one_by_one():
    url = StorageURL("memory://?a=1&flag=yes&t=1.5&name=x%20y")
    assert url.take("a", parse_count, 0) == 1
    assert url.take("a", parse_count, 7) == 7, "taken is taken"
    assert url.take("flag", parse_flag, default=False) is True
    assert url.take("t", parse_seconds, None) == timedelta(seconds=1.5)
    assert url.take("name", parse_text, "") == "x y"
    assert url.take("missing", parse_text, "default") == "default"
    url.finish()


def test_an_option_nobody_took_is_refused_by_name():
    url = StorageURL("memory://?key_prefx=a")
    url.take("key_prefix", parse_text, "")
    url.take("tables.sessions", parse_text, "")
    with pytest.raises(InvalidArgument, match=r"no option 'key_prefx'; did you mean key_prefix\?") as caught:
        url.finish()
    assert "key_prefix? Known: key_prefix, tables.sessions" in str(caught.value)


def test_an_option_far_from_any_is_refused_too():
    with pytest.raises(InvalidArgument, match=r"have no option 'zzz'\. Known: none$"):
        StorageURL("memory://?zzz=1").finish()


def test_the_rest_is_for_the_driver():
    url = StorageURL("postgresql://h/db?sslmode=require&a=1")
    url.take("a", parse_count, 0)
    assert url.rest() == {"sslmode": "require"}
    assert url.rest() == {}
    url.finish()


def test_a_bad_value_names_its_option():
    url = StorageURL("memory://?session_ttl=-1")
    with pytest.raises(InvalidArgument, match="the option session_ttl in the URL: must be a positive number of sec"):
        url.take("session_ttl", parse_seconds, None)


def test_a_word_for_seconds_is_explained():
    with pytest.raises(ValueError, match="must be a positive number of seconds"):
        parse_seconds("soon")


@pytest.mark.parametrize("text", ["memory://host", "memory://u@", "memory:///path", "memory://host:1", "memory://u:p@"])
def test_a_location_where_there_is_none(text):
    with pytest.raises(InvalidArgument, match="takes no host or path"):
        StorageURL(text).expect_no_location()


def test_a_password_where_there_is_no_location():
    with pytest.raises(InvalidArgument, match="takes no host or path"):
        StorageURL("memory://:p@").expect_no_location()


@pytest.mark.parametrize(("text", "value"), [("1", True), ("TRUE", True), ("yes", True), ("on", True), ("0", False),
                                             ("False", False), ("no", False), ("off", False)])  # fmt: skip
def test_flags(text, value):
    assert parse_flag(text) is value


@pytest.mark.parametrize(
    ("parse", "text"),
    [(parse_flag, text) for text in ("", "ja", "2")]
    + [(parse_count, text) for text in ("", "-1", "1.0", "٣", "1_0", " 1", "9" * 5000)]
    + [(parse_seconds, text) for text in ("", "x", "0", "-1", "nan", "inf", "1e400", "1e300", "1e-9")]
    + [(parse_text, "")],
)
def test_values_that_are_refused(parse, text):
    with pytest.raises(ValueError, match=r".") as caught:
        parse(text)
    assert len(str(caught.value)) < 300


def test_counts_and_texts():
    assert parse_count("0") == 0
    assert parse_count("0042") == 42
    assert parse_text(" x ") == " x "


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, timedelta(seconds=1)), (0.5, timedelta(milliseconds=500)), (timedelta(days=3), timedelta(days=3)),
     (1e-6, timedelta(microseconds=1))],
)  # fmt: skip
def test_durations(value, expected):
    assert duration(value, "ttl") == expected


@pytest.mark.parametrize(
    "value",
    [0, -1, 0.0, -0.5, timedelta(0), timedelta(seconds=-1), math.nan, math.inf, -math.inf, 1e300, True, "1", None, [1]],
    ids=repr,
)
def test_what_is_no_duration(value):
    with pytest.raises(InvalidArgument, match="ttl"):
        duration(value, "ttl")
