"""Memory adapters with one defect each in how they are opened: by URL, before `open`, after `aclose`."""

from __future__ import annotations

from turnkeep.errors import ConfigurationError

from .mutants import Mutant, caught_by


@caught_by("test_url_is_opened_by_connect")
class FailsToReadItsURL(Mutant):
    @classmethod
    def from_url(cls, url):
        raise RuntimeError("not today")


@caught_by("test_url_refuses_an_unknown_option_by_name")
class TakesAnyOption(Mutant):
    @classmethod
    def from_url(cls, url):
        url.rest()
        return super().from_url(url)


class Opened(Mutant):
    """Has something to open, and says so where it is not."""

    client = None

    async def open(self, *, auto_create=True):
        self.client = {}

    async def aclose(self):
        self.client = None

    async def load(self, key, query):
        self.ask("load")
        return await super().load(key, query)

    def ask(self, operation):
        if self.client is None:
            raise ConfigurationError("this store is not open: await open() first")
        self.client.get(operation)


Opened.correct = Opened


@caught_by("test_a_call_before_open_or_after_close_is_told")
class UsesAClientThatIsNotThere(Opened):
    def ask(self, operation):
        self.client.get(operation)


@caught_by("test_reopen")
class OpensOnce(Opened):
    closed = False

    async def aclose(self):
        self.closed = True
        await super().aclose()

    async def open(self, *, auto_create=True):
        if not self.closed:
            await super().open(auto_create=auto_create)
