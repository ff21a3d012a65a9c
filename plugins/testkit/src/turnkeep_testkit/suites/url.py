"""What a URL opens, as an application does it: by `turnkeep.connect`, through the entry point."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from turnkeep import connect, create_session
from turnkeep.contract import Capability, Level
from turnkeep.errors import ConfigurationError, TurnkeepError
from turnkeep_testkit.suites.base import Suite

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from turnkeep.persistence import Persistence

_UNKNOWN = "no_such_option"


class URLSuite(Suite):
    """Where the author gives a URL: it opens the adapter, and what is wrong with it is told."""

    def connect_url(self) -> str | None:
        """Override it: a URL of a store that the tests may use, for which a plugin is installed.

        None: it is not looked at.
        """
        return None

    async def test_url_is_opened_by_connect(self) -> None:
        """`turnkeep.connect` opens the URL, twice; the second time what was committed is there, if that is promised.

        On failure: see that an entry point registers the scheme, and what `from_url` makes of host, path and options.
        It may raise errors of Turnkeep only.
        """
        lasts = self.level(Capability.DURABLE) is not Level.NONE
        for said in (1, 2 if lasts else 1):
            async with _connected(self._url(), self.scope.namespace) as persistence:
                assert persistence.adapter.name == self.adapter.name
                if await persistence.find_session_by_id("s1") is None:
                    await persistence.save_session_state("s1", create_session("s1"))
                await persistence.save_message("s1", "user", "Hello")
                assert len(await persistence.load_session_history("s1")) == said

    async def test_url_refuses_an_unknown_option_by_name(self) -> None:
        """An option that the adapter does not know is `ConfigurationError`, and the message holds its name.

        On failure: take options by `url.take`. What is left `connect` refuses; who takes it all by `url.rest()` has to
        look at it.
        """
        url = self._url()
        with pytest.raises(ConfigurationError, match=_UNKNOWN):
            async with _connected(f"{url}{'&' if '?' in url else '?'}{_UNKNOWN}=1", self.scope.namespace):
                pass

    def _url(self) -> str:
        url = self.connect_url()
        if url is None:
            pytest.skip("override connect_url() to show that turnkeep.connect opens it")
        return url


@asynccontextmanager
async def _connected(url: str, namespace: str) -> AsyncGenerator[Persistence]:
    try:
        connecting = connect(url, namespace=namespace)
    except TurnkeepError:
        raise
    except Exception as error:
        raise AssertionError(f"what a URL raises is an error of Turnkeep, not {error!r}") from error
    async with connecting as persistence:
        yield persistence
