"""`bertcall` and servers that want certificates and tokens: which flags let it in, and what it says otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bertapi.command import main
from certificates import Authority
from servers import PLAIN, RunningServer, running_server

TOKEN = "a-token-of-sixteen-characters"

CERTIFICATE = "--ca {ca} --certificate {certificate} --key {key}"
CREDENTIALS = f"{CERTIFICATE} --token-file {{token}}"
HANDSHAKES = {
    "no TLS": "",
    "no certificate of the client": "--ca {ca}",
    "a certificate of another authority": "--ca {ca} --certificate {other_certificate} --key {other_key}",
    "another authority for the server": "--ca {other_ca} --certificate {certificate} --key {key}",
    "the public authorities": "--tls --certificate {certificate} --key {key}",
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("token") / "token.txt"
    path.write_text(f"{TOKEN}\n")
    return path


@pytest.fixture(scope="module")
def files(authority: Authority, token_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the flags above name: the client's own certificate, and one of an authority that nobody trusts."""
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    mine, theirs = authority.issue("me"), stranger.issue("me")
    return {
        "ca": authority.ca,
        "certificate": mine.certificate,
        "key": mine.key,
        "other_ca": stranger.ca,
        "other_certificate": theirs.certificate,
        "other_key": theirs.key,
        "token": token_file,
    }


@pytest.fixture(scope="module")
def guarded(authority: Authority, token_file: Path) -> Iterator[RunningServer]:
    """A server that wants to see a certificate of the authority and a token."""
    own = authority.issue("server")
    tls = ["--tls-certificate", own.certificate, "--tls-key", own.key, "--tls-client-ca", authority.ca]
    with running_server(PLAIN, *tls, "--tokens", token_file) as running:
        yield running


def test_all_credentials_together_let_it_in(
    guarded: RunningServer, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """README's own line: --ca, --certificate, --key and --token-file."""
    assert main(["embed", "a cat", "--target", guarded.target, *CREDENTIALS.format(**files).split()]) == 0
    assert "a cat" in capsys.readouterr().out


def test_a_stream_takes_them_too(guarded: RunningServer, files: dict[str, Path], tmp_path: Path) -> None:
    """The bulk command connects like the others."""
    (tmp_path / "texts").write_text("a cat\n")
    flags = CREDENTIALS.format(**files).split()
    assert main(["stream", str(tmp_path / "texts"), "--embed", "--target", guarded.target, *flags]) == 0


def test_without_a_token_it_is_told_to_bring_one(
    guarded: RunningServer, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A sound certificate is not enough."""
    assert main(["models", "--target", guarded.target, *CERTIFICATE.format(**files).split()]) == 1
    assert capsys.readouterr().err.startswith("bertcall: UNAUTHENTICATED: ")


@pytest.mark.parametrize("flags", HANDSHAKES.values(), ids=HANDSHAKES)
def test_a_handshake_that_fails_is_no_ready_server(
    flags: str, guarded: RunningServer, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """UNAVAILABLE is all that a client learns of it."""
    arguments = ["models", "--target", guarded.target, "--timeout", "20", *flags.format(**files).split()]
    assert main(arguments) == 1
    assert f"no ready server at {guarded.target} (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--certificate", "me.pem"], "--certificate and --key go together"),
        (["--key", "me.key"], "--certificate and --key go together"),
        (["--ca", "/no/such/ca.pem"], "/no/such/ca.pem: No such file or directory"),
    ],
    ids=["no key", "no certificate", "no such authority"],
)
def test_credentials_that_cannot_be_used(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and a line that says what is wrong, without any server."""
    assert main(["models", *flags]) == 2
    assert capsys.readouterr().err == f"bertcall: {message}\n"


def test_a_token_file_that_cannot_be_read_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """By its path and the reason, and no call goes out without it."""
    assert main(["models", "--target", "127.0.0.1:1", "--token-file", "/no/such/token"]) == 1
    assert capsys.readouterr().err == (
        "bertcall: UNAUTHENTICATED: token file /no/such/token: No such file or directory\n"
    )
