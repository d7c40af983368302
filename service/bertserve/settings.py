"""Every knob of the server: from flags, then the environment (BERTSERVE_*), then a file, then defaults. Their only
reader."""

from __future__ import annotations

import argparse
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    CliSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

DEMO_BUNDLE = Path(__file__).parent / "demo"

MIB = 1024 * 1024

CIRCLE = "its links lead in a circle"


class SettingsError(Exception):
    """A flag, variable or line of the settings file that cannot be. The message names it."""


class _Environment(EnvSettingsSource):
    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:  # noqa: ARG002
        """The one list, BERTSERVE_BUNDLES, holds bundles separated by whitespace."""
        return value.split()


class _File(PydanticBaseSettingsSource):
    """The TOML file that `--config` or BERTSERVE_CONFIG names; its keys are the flags' names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        path = self.current_state.get("config")
        return read_file(Path(path)) if path else {}


class Settings(BaseSettings):
    """One frozen object, made once at start. Every description says meaning, unit and consequence."""

    model_config = SettingsConfigDict(
        env_prefix="BERTSERVE_", cli_kebab_case=True, cli_prog_name="bertserve", cli_implicit_flags=True, frozen=True
    )

    bundles: CliPositionalArg[list[str]] = Field(
        default=[], description="Bundles to serve, DIR or NAME=DIR; none: the demo model inside the package."
    )
    config: Path | None = Field(
        None, description="TOML file of settings, named as the flags are; flags and environment override it."
    )
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 opens the server to the network.")
    port: int = Field(50051, ge=0, le=65535, description="gRPC port; 0 picks a free one.")
    metrics_host: str = Field("", description="Address of the metrics port; empty: the same as --host.")
    metrics_port: int = Field(
        9090, ge=0, le=65535, description="HTTP port of /metrics, /livez and /readyz; 0 picks a free one."
    )
    tls_certificate: Path | None = Field(
        None, description="PEM file of the server's certificate chain; read again when it changes."
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key, unencrypted.")
    tls_client_ca: Path | None = Field(
        None, description="PEM file of the authorities whose client certificates are let in; others are not, then."
    )
    tokens: Path | None = Field(
        None, description="File of bearer tokens, one a line; callers need one, save for health. Read again on change."
    )
    plaintext_tokens: bool = Field(
        False, description="Take tokens without TLS beyond loopback, where a proxy in front encrypts."
    )
    max_connections: int = Field(1000, ge=1, description="Connections open at a time; more are closed at once.")
    max_streams: int = Field(
        1024, ge=1, le=100_000, description="Calls that one connection may have open; clients hold more back or retry."
    )
    lanes: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        "auto", description="Batches that run at the same time; auto: one per core of the CPU quota."
    )
    lane_threads: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        "auto", description="Threads of one lane; auto: 1. Lanes × threads should not exceed the cores."
    )
    batch_tokens: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description="Tokens in a batch at most, except one longer text; auto: 256. More delays short texts.",
    )
    tune: bool = Field(
        False,
        description="Measure lanes, lane threads and batch tokens on the first bundle before ready, in place of their "
        "flags; takes seconds.",
    )
    queue_tokens: int = Field(
        65_536,
        ge=1,
        description="Tokens that may wait for a bundle, in line and as many behind it in requests longer than a batch; "
        "beyond, requests are refused. Also the largest request.",
    )
    max_wait_overtaken: float = Field(
        0.5, ge=0, description="Seconds after which no younger item may overtake an item that waits."
    )
    stall_seconds: float = Field(
        20.0,
        gt=0,
        le=3600,
        description="Seconds, beyond ten times its expected time, after which a batch counts as stalled: its callers "
        "get UNAVAILABLE and its lane is replaced.",
    )
    max_inputs: int = Field(1024, ge=1, description="Inputs in a request at most.")
    max_characters: int = Field(65_536, ge=1, description="Characters in a text at most, checked before tokenizing.")
    max_top_k: int = Field(1000, ge=1, description="Predictions per mask at most.")
    max_request_bytes: int = Field(
        4 * MIB,
        ge=1024,
        le=2_000_000_000,
        description="Size of a request message at most. The Python clients and bertcall split longer lists; streams "
        "take any number of texts.",
    )
    pending_bytes: int = Field(
        128 * MIB,
        ge=1024,
        description="Bytes of requests above 64 KiB that are answered at a time; as many again may come slowly. "
        "Beyond, such requests are refused.",
    )
    max_open_streams: int = Field(
        64, ge=1, description="Streams open at a time, each of which may have one message on its way; more are refused."
    )
    max_response_bytes: int = Field(
        64 * MIB,
        ge=1024,
        le=2_000_000_000,
        description="Size of an answer at most; refused before anything runs. Four times that may wait to be read.",
    )
    max_connection_age: float = Field(
        300.0,
        gt=0,
        le=2_000_000,
        description="Seconds after which clients are told to reconnect, so that new replicas get a share; open calls "
        "and streams end in their own time.",
    )
    drain_pause: float = Field(
        1.0, ge=0, le=3600, description="Seconds of serving on after SIGTERM, while load balancers notice NOT_SERVING."
    )
    grace: float = Field(
        30.0, ge=0, le=3600, description="Seconds that accepted calls have to finish after the drain pause."
    )
    open_inference: bool = Field(
        False, description="Serve the Open Inference Protocol as well, for clients of Triton and KServe."
    )
    tracing: bool = Field(
        False, description="Send OpenTelemetry spans where the OTEL_* variables say; needs the extra [otel]."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log line to write; never holds a caller's text."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags before environment before file before defaults."""
        return init_settings, _Environment(settings_cls), _File(settings_cls)


def read_settings(arguments: list[str]) -> Settings:
    """Settings from arguments, environment and file. Raises SettingsError; `--help` and unknown flags exit."""
    positional: dict[str, Any] = {}

    def parse(parser: argparse.ArgumentParser, *arguments: Any) -> argparse.Namespace:
        """Bundles go round pydantic-settings, which would cut them at commas."""
        parsed: argparse.Namespace = parser.parse_args(*arguments)
        if isinstance(parsed.bundles, list) and parsed.bundles:
            positional["bundles"] = parsed.bundles
        del parsed.bundles
        return parsed

    flags: CliSettingsSource[Any] = CliSettingsSource(Settings, cli_parse_args=arguments, parse_args_method=parse)
    try:
        return Settings(_cli_settings_source=flags, **positional)  # type: ignore[call-arg]
    except ValidationError as error:
        fault = error.errors()[-1]
        name = str(fault["loc"][0]) if fault["loc"] else "settings"
        flag = name if name == "bundles" else f"--{name.replace('_', '-')}"
        raise SettingsError(f"{flag} (BERTSERVE_{name.upper()}): {fault['msg']}") from error


def read_file(path: Path) -> dict[str, Any]:
    """Settings of a TOML file, by field name. Raises SettingsError for what is no TOML and for unknown keys."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"--config {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"--config {path}: {error}") from error
    named = {key.replace("-", "_"): value for key, value in values.items()}
    unknown = [key for key in values if key.replace("-", "_") not in Settings.model_fields.keys() - {"config"}]
    if unknown:
        raise SettingsError(f"--config {path}: no such setting: {', '.join(unknown)}; bertserve --help lists them")
    return {name: _as_argument(value) for name, value in named.items()}


def _as_argument(value: Any) -> Any:
    """A text as Python reads it from the command line. In an ASCII locale, no other form of é names a file."""
    if isinstance(value, list):
        return [_as_argument(entry) for entry in value]
    return os.fsdecode(value.encode()) if isinstance(value, str) else value


def named_bundles(settings: Settings) -> dict[str, Path]:
    """Name → directory, in the order given. A bare DIR is named by its last path component.

    Raises SettingsError for a name that is empty, repeated or not UTF-8. No message of the API could hold the last.
    """
    if not settings.bundles:
        return {DEMO_BUNDLE.name: DEMO_BUNDLE}
    bundles: dict[str, Path] = {}
    for argument in settings.bundles:
        name, equals, directory = argument.partition("=")
        path = Path(directory if equals else argument)
        name = _as_text(name if equals else _own_name(path), path)
        if not name or not (directory if equals else argument):
            raise SettingsError(f"bundle {argument!r}: give DIR or NAME=DIR")
        if name in bundles:
            raise SettingsError(f"bundle name {name!r} is given twice; name one of them otherwise, as in other={path}")
        bundles[name] = path
    return bundles


def _own_name(path: Path) -> str:
    """The last part of a path without `.`, `..` and links. Raises SettingsError if the system cannot follow it."""
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError) as error:  # the latter for links in a circle, before Python 3.13
        raise _not_found(path, getattr(error, "strerror", None) or CIRCLE) from error
    if resolved.is_symlink():  # links in a circle, from Python 3.13 on
        raise _not_found(path, CIRCLE)
    return resolved.name


def _not_found(path: Path, reason: str) -> SettingsError:
    return SettingsError(f"bundle {path}: cannot be found ({reason}); give NAME=DIR, or another DIR")


def _as_text(name: str, path: Path) -> str:
    """The name in Unicode, whatever the locale made of its bytes."""
    try:
        return os.fsencode(name).decode()
    except UnicodeDecodeError:
        raise SettingsError(f"bundle name {name} is not UTF-8; give it another, as in name={path}") from None
