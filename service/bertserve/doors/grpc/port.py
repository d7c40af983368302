"""The gRPC port: what a connection may cost, and the certificates and tokens that callers have to show."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from bertserve.doors.door import ServerError, join_address
from bertserve.doors.grpc.handlers import Link
from bertserve.doors.grpc.unserved import make_server
from bertserve.doors.reloading import FileError, ReloadedFiles
from bertserve.doors.tls import Certificates, open_certificates
from bertserve.doors.tokens import Tokens
from bertserve.observe.metrics import Metrics
from bertserve.settings import Settings

# A client that has not shaken hands and sent its settings by then is none.
HANDSHAKE_SECONDS = 10.0

# A caller of whom nothing comes is asked for a sign of life, and is gone without one: streams have no other end.
SILENT_SECONDS = 60.0
ANSWER_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """What is opened before the models are loaded. credentials, tokens, tracing: None = switched off.

    stop: ends tracing. Call it once nothing is served any more.
    """

    credentials: grpc.ServerCredentials | None
    tokens: Tokens | None
    tracing: Link | None
    stop: Callable[[], None]


def open_guards(settings: Settings, metrics: Metrics) -> Guards:
    """TLS, tokens and tracing as the settings want them.

    Raises ServerError for files that do not hold what they should, and for tracing that is not installed.
    """
    try:
        credentials = _credentials(settings, metrics)
        tokens = _open_tokens(settings, metrics)
    except FileError as error:
        raise ServerError(str(error)) from error
    tracing, stop = _open_tracing(settings)
    return Guards(credentials=credentials, tokens=tokens, tracing=tracing, stop=stop)


def make_grpc_server(settings: Settings, chain: grpc.aio.ServerInterceptor) -> grpc.aio.Server:
    """Return a server without services or port. chain: what every call passes."""
    return make_server([chain], _connection_options(settings))


def bind(server: grpc.aio.Server, settings: Settings, credentials: grpc.ServerCredentials | None) -> int:
    """Listen, and return the port. credentials: None without TLS. Raises ServerError."""
    address = join_address(settings.host, settings.port)
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise _unlistened(address) from error
    if port == 0:
        raise _unlistened(address)
    return port


def _unlistened(address: str) -> ServerError:
    # gRPC does not say which of the two it is.
    return ServerError(
        f"cannot listen on {address}; is the port taken, or the host no address of this machine? "
        "Choose others with --port and --host"
    )


def _connection_options(settings: Settings) -> list[tuple[str, int]]:
    return [
        # With port sharing a second server on the same port would start, and take half of the connections.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_connection_age_ms", int(settings.max_connection_age * 1000)),
        ("grpc.max_concurrent_streams", settings.max_streams),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.server_handshake_timeout_ms", int(HANDSHAKE_SECONDS * 1000)),
        ("grpc.keepalive_time_ms", int(SILENT_SECONDS * 1000)),
        ("grpc.keepalive_timeout_ms", int(ANSWER_SECONDS * 1000)),
        # Clients that keep idle connections alive with pings are welcome. gRPC's send one in ten seconds at most, of
        # which some come closer to each other; a few that come too early end the connection.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Or gRPC lets a client whose connection is fast send megabytes of a message that nobody asked for yet.
        ("grpc.http2.bdp_probe", 0),
    ]


def _open_tokens(settings: Settings, metrics: Metrics) -> Tokens | None:
    if settings.tokens is None:
        return None
    if settings.tls_certificate is None and not settings.plaintext_tokens and not _is_loopback(settings.host):
        raise ServerError(
            "bearer tokens would cross the network in the clear: set --tls-certificate and --tls-key, or "
            "--plaintext-tokens where a proxy in front of the server encrypts"
        )
    return Tokens(settings.tokens, metrics)


def _open_tracing(settings: Settings) -> tuple[Link | None, Callable[[], None]]:
    if not settings.tracing:
        return None, lambda: None
    try:
        # Nothing of it is loaded, nor needs to be installed, where it is not switched on.
        from bertserve.doors.grpc.chain.tracing import TracingLink
    except ImportError as error:
        raise ServerError(f"--tracing: {error}") from error
    tracing = TracingLink()
    return tracing, tracing.stop


def _credentials(settings: Settings, metrics: Metrics) -> grpc.ServerCredentials | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        if settings.tls_certificate or settings.tls_key or settings.tls_client_ca:
            raise ServerError("--tls-certificate and --tls-key go together, and --tls-client-ca needs both")
        return None
    return _reloaded_credentials(
        open_certificates(settings.tls_certificate, settings.tls_key, settings.tls_client_ca, metrics)
    )


def _reloaded_credentials(certificates: ReloadedFiles[Certificates]) -> grpc.ServerCredentials:
    """gRPC asks for the certificates before every handshake; connections that stand are left alone."""
    given = certificates.current()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        found = certificates.current()
        if found is given:
            return None
        given = found
        return _configuration(found)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(given),
        changed,  # type: ignore[arg-type]  # the stub forgets that None stands for no change
        require_client_authentication=given.client_ca is not None,
    )


def _configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(certificates.key, certificates.chain)], root_certificates=certificates.client_ca
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
