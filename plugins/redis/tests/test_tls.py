"""Over TLS, with certificates made for the test: who is believed, and what is said of who is not."""

import os
import shutil
import subprocess

import pytest

from turnkeep.contract import LoadQuery, Scope, SessionKey
from turnkeep.errors import StorageTimeout, StorageUnavailable
from turnkeep_testkit import new_commit

from .kit import from_url, opened
from .servers import PrivateRedis, free_port

KEY = SessionKey(Scope("shop"), "s1")


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """A folder with a certificate that vouches for itself, for 127.0.0.1, and another that nobody trusts."""
    program = shutil.which("openssl")
    if program is None:
        if os.environ.get("TURNKEEP_REQUIRE_SERVICES", "") not in {"", "0"}:
            pytest.fail("there is no openssl on this machine")
        pytest.skip("there is no openssl on this machine to make certificates with")
    folder = tmp_path_factory.mktemp("papers")
    for name in ("server", "stranger"):
        files = ("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem")
        kind = ("-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}")
        names = ("-addext", "subjectAltName=IP:127.0.0.1")
        subprocess.run([program, "req", *kind, *names, *files], check=True, capture_output=True)
    return folder


class TLSRedis(PrivateRedis):
    """Encrypted on a second port; ``url`` leads there."""

    def __init__(self, directory, papers, *options):
        port = free_port()
        files = ("--tls-cert-file", str(papers / "server.pem"), "--tls-key-file", str(papers / "server.key"))
        trust = ("--tls-ca-cert-file", str(papers / "server.pem"))
        super().__init__(directory, "--save", "", "--tls-port", str(port), *files, *trust, *options)
        self.url = f"rediss://127.0.0.1:{port}/0"


@pytest.fixture
def server(tmp_path, papers):
    with TLSRedis(tmp_path / "server", papers, "--tls-auth-clients", "no") as server:
        yield server


async def expect_works(url):
    async with opened(from_url(url)) as adapter:
        await adapter.commit(new_commit(KEY, "one"))
        assert (await adapter.load(KEY, LoadQuery())).messages[0].content == "one"
        await adapter.delete(KEY)


async def test_a_server_whose_certificate_is_trusted(server, papers):
    await expect_works(f"{server.url}?tls.ca={papers / 'server.pem'}")


async def test_a_login_travels_encrypted(tmp_path, papers):
    with TLSRedis(tmp_path / "server", papers, "--tls-auth-clients", "no", "--requirepass", "right") as server:
        url = server.url.replace("rediss://", "rediss://:right@")
        await expect_works(f"{url}?tls.ca={papers / 'server.pem'}")


@pytest.mark.parametrize("trusted", ["", "stranger.pem"])
async def test_a_server_whose_certificate_is_not_trusted(server, papers, trusted):
    url = f"{server.url.replace('rediss://', 'rediss://:hunter2@')}"
    with pytest.raises(StorageUnavailable, match=r"tls\.ca") as caught:
        await from_url(f"{url}?tls.ca={papers / trusted}" if trusted else url).open()
    assert not caught.value.retryable
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__!r}"


async def test_a_certificate_for_another_host(server, papers):
    url = server.url.replace("127.0.0.1", "localhost")
    with pytest.raises(StorageUnavailable, match=r"certificate"):
        await from_url(f"{url}?tls.ca={papers / 'server.pem'}").open()


async def test_verifying_can_be_turned_off(server):
    await expect_works(f"{server.url}?tls.verify=false")


async def test_a_client_that_shows_its_own_certificate(tmp_path, papers):
    with TLSRedis(tmp_path / "server", papers, "--tls-auth-clients", "yes") as server:
        trust = f"tls.ca={papers / 'server.pem'}"
        own = f"tls.cert={papers / 'server.pem'}&tls.key={papers / 'server.key'}"
        await expect_works(f"{server.url}?{trust}&{own}")
        with pytest.raises(StorageUnavailable):
            await from_url(f"{server.url}?{trust}").open()


async def test_one_end_that_encrypts_and_one_that_does_not(server, papers):
    with pytest.raises(StorageUnavailable, match="hung up"):
        await from_url(server.url.replace("rediss://", "redis://")).open()
    # A server without TLS takes what it is greeted with for the beginning of a line, and waits for the rest.
    plain = f"rediss://127.0.0.1:{server.port}?tls.ca={papers / 'server.pem'}&connect_timeout=0.2"
    with pytest.raises(StorageTimeout):
        await from_url(plain).open()
