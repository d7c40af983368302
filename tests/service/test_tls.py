"""TLS and mutual TLS from files, and files that change under a running server."""

from __future__ import annotations

import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from bertapi.client import BertClient, UnavailableError, tls_credentials
from certificates import Authority, Pair, replace
from cryptography.hazmat.primitives import serialization as pem
from servers import PLAIN, RunningServer, running_server, start_refused


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture
def pair(authority: Authority, tmp_path: Path) -> Pair:
    """A server's files, which the test may change."""
    issued = authority.issue("server")
    copies = Pair(tmp_path / "server.pem", tmp_path / "server.key")
    shutil.copy(issued.certificate, copies.certificate)
    shutil.copy(issued.key, copies.key)
    return copies


@pytest.fixture
def tls_server(pair: Pair) -> Iterator[RunningServer]:
    with running_server(PLAIN, *tls_flags(pair)) as running:
        yield running


def tls_flags(pair: Pair, client_ca: Path | None = None) -> list[str | Path]:
    flags: list[str | Path] = ["--tls-certificate", pair.certificate, "--tls-key", pair.key]
    return flags if client_ca is None else [*flags, "--tls-client-ca", client_ca]


def can_call(server: RunningServer, credentials: grpc.ChannelCredentials | None) -> bool:
    """Whether a new connection carries a call; UNAVAILABLE is all that a client learns of a failed handshake."""
    with BertClient(server.target, credentials=credentials, timeout_seconds=30) as client:
        try:
            client.list_models()
        except UnavailableError:
            return False
        return True


def serial_of_peer(server: RunningServer, authority: Authority) -> str:
    """The serial number of the certificate that a new connection is shown."""
    context = ssl.create_default_context(cafile=str(authority.ca))
    context.set_alpn_protocols(["h2"])
    host, _, port = server.target.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        certificate = connection.getpeercert()
    assert certificate
    return str(certificate["serialNumber"])


def test_calls_are_encrypted_and_the_server_is_known(
    tls_server: RunningServer, authority: Authority, stranger: Authority
) -> None:
    """By the authority that signed its certificate, by no other, and nothing is served in the clear."""
    assert can_call(tls_server, tls_credentials(ca=authority.ca))
    assert not can_call(tls_server, tls_credentials(ca=stranger.ca))
    assert not can_call(tls_server, None)


def test_old_protocols_are_refused(tls_server: RunningServer, authority: Authority) -> None:
    """TLS 1.2 is the oldest that is spoken."""
    context = ssl.create_default_context(cafile=str(authority.ca))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    host, _, port = tls_server.target.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname=host)


def test_clients_need_a_certificate_of_the_authority(pair: Pair, authority: Authority, stranger: Authority) -> None:
    """Mutual TLS: none, or one that somebody else signed, is refused."""
    good, bad = authority.issue("client"), stranger.issue("client")
    with running_server(PLAIN, *tls_flags(pair, authority.ca)) as server:
        assert can_call(server, tls_credentials(ca=authority.ca, certificate=good.certificate, key=good.key))
        assert not can_call(server, tls_credentials(ca=authority.ca, certificate=bad.certificate, key=bad.key))
        assert not can_call(server, tls_credentials(ca=authority.ca))


def test_renewed_certificate_is_shown_to_new_connections(
    tls_server: RunningServer, pair: Pair, authority: Authority
) -> None:
    """Without a restart; a connection that stood before carries its calls on."""
    before = serial_of_peer(tls_server, authority)
    with BertClient(tls_server.target, credentials=tls_credentials(ca=authority.ca)) as standing:
        standing.list_models()
        renewed = authority.issue("renewed")
        replace(pair.certificate, renewed.certificate.read_bytes())
        replace(pair.key, renewed.key.read_bytes())
        after = serial_of_peer(tls_server, authority)
        assert standing.list_models()
    assert before != after
    assert serial_of_peer(tls_server, authority) == after
    assert tls_server.sample('bertserve_reloads_total{result="used",what="certificates"}') == 1


def test_new_client_authority_counts_for_new_connections(
    pair: Pair, authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    """An authority can be replaced too: who was refused is let in, and the other way round."""
    trusted = Path(shutil.copy(authority.ca, tmp_path / "clients.pem"))
    old, new = authority.issue("client"), stranger.issue("client")
    old_credentials = tls_credentials(ca=authority.ca, certificate=old.certificate, key=old.key)
    new_credentials = tls_credentials(ca=authority.ca, certificate=new.certificate, key=new.key)
    with running_server(PLAIN, *tls_flags(pair, trusted)) as server:
        assert (can_call(server, old_credentials), can_call(server, new_credentials)) == (True, False)
        replace(trusted, stranger.ca.read_bytes())
        assert (can_call(server, old_credentials), can_call(server, new_credentials)) == (False, True)


HALF = 300


@pytest.mark.parametrize(
    "damage",
    [
        lambda pair: pair.certificate.write_bytes(pair.certificate.read_bytes()[:HALF]),
        lambda pair: pair.key.write_bytes(pair.key.read_bytes()[:50]),
        lambda pair: pair.certificate.write_bytes(b""),
        lambda pair: pair.key.unlink(),
        lambda pair: pair.certificate.write_bytes(b"-" * 2_000_000),
    ],
    ids=["half a certificate", "half a key", "empty", "gone", "too large"],
)
def test_bad_file_leaves_the_old_certificate_in_force(
    tls_server: RunningServer, pair: Pair, authority: Authority, damage: object
) -> None:
    """The log and a metric say so, once for every change; a good file is taken again afterwards."""
    before = serial_of_peer(tls_server, authority)
    damage(pair)  # type: ignore[operator]
    assert serial_of_peer(tls_server, authority) == before
    assert serial_of_peer(tls_server, authority) == before
    assert tls_server.sample('bertserve_reloads_total{result="refused",what="certificates"}') == 1
    assert tls_server.sample('bertserve_stale_files{what="certificates"}') == 1
    assert sum("the old ones stay in force" in line for line in tls_server.log) == 1
    renewed = authority.issue("renewed")
    replace(pair.key, renewed.key.read_bytes())
    replace(pair.certificate, renewed.certificate.read_bytes())
    assert serial_of_peer(tls_server, authority) != before
    assert tls_server.sample('bertserve_stale_files{what="certificates"}') == 0


def test_half_of_a_renewal_waits_for_the_other(tls_server: RunningServer, pair: Pair, authority: Authority) -> None:
    """A certificate whose key has not come yet is not shown."""
    before = serial_of_peer(tls_server, authority)
    renewed = authority.issue("renewed")
    replace(pair.certificate, renewed.certificate.read_bytes())
    assert serial_of_peer(tls_server, authority) == before
    replace(pair.key, renewed.key.read_bytes())
    assert serial_of_peer(tls_server, authority) != before


@pytest.mark.parametrize("which", ["certificate", "key"])
def test_server_does_not_start_with_a_bad_file(pair: Pair, which: str) -> None:
    """One line names the files."""
    getattr(pair, which).write_text("no PEM")
    status, line = start_refused(PLAIN, *tls_flags(pair))
    assert status == 1
    assert str(getattr(pair, which)) in line


def test_server_does_not_start_with_the_key_of_another_certificate(pair: Pair, authority: Authority) -> None:
    """The pair is checked, not only each file."""
    other = authority.issue("other")
    status, line = start_refused(PLAIN, "--tls-certificate", pair.certificate, "--tls-key", other.key)
    assert status == 1
    assert "private key" in line


@pytest.mark.parametrize("flag", ["--tls-certificate", "--tls-key", "--tls-client-ca"])
def test_half_of_the_flags_is_refused(pair: Pair, flag: str) -> None:
    """TLS that was meant and not got would be worse than none."""
    status, line = start_refused(PLAIN, flag, pair.certificate)
    assert status == 1
    assert "--tls-key" in line


def test_missing_file_is_named(pair: Pair, tmp_path: Path) -> None:
    status, line = start_refused(PLAIN, *tls_flags(pair, tmp_path / "nothing.pem"))
    assert (status, str(tmp_path / "nothing.pem") in line) == (1, True)


def test_encrypted_key_is_refused_without_asking(pair: Pair) -> None:
    """OpenSSL would otherwise prompt on the terminal."""
    key = pem.load_pem_private_key(pair.key.read_bytes(), password=None)
    secret = pem.BestAvailableEncryption(b"secret")
    pair.key.write_bytes(key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, secret))
    status, line = start_refused(PLAIN, *tls_flags(pair))
    assert (status, "unencrypted" in line) == (1, True)
