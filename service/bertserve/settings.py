"""Every knob of the server, from flags, then environment (BERTSERVE_*), then defaults. The only reader of either."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

DEMO_BUNDLE = Path(__file__).parent / "demo"

MIB = 1024 * 1024


class SettingsError(Exception):
    """A flag or variable that cannot be. The message names it."""


class _Environment(EnvSettingsSource):
    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:  # noqa: ARG002
        """The one list, BERTSERVE_BUNDLES, holds bundles separated by whitespace."""
        return value.split()


class Settings(BaseSettings):
    """One frozen object, made once at start. Every description says meaning, unit and consequence."""

    model_config = SettingsConfigDict(
        env_prefix="BERTSERVE_", cli_kebab_case=True, cli_prog_name="bertserve", cli_implicit_flags=True, frozen=True
    )

    bundles: CliPositionalArg[list[str]] = Field(
        default=[], description="Bundles to serve, DIR or NAME=DIR; none: the demo model inside the package."
    )
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 opens the server to the network.")
    port: int = Field(50051, ge=0, le=65535, description="gRPC port; 0 picks a free one.")
    metrics_host: str = Field("", description="Address of the metrics port; empty: the same as --host.")
    metrics_port: int = Field(
        9090, ge=0, le=65535, description="HTTP port of /metrics, /livez and /readyz; 0 picks a free one."
    )
    lanes: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        "auto", description="Batches that run at the same time; auto: one per core of the CPU quota."
    )
    lane_threads: int = Field(
        1, ge=1, le=1024, description="Threads of one lane; lanes × threads should not exceed the cores."
    )
    batch_tokens: int = Field(
        256, ge=1, description="Tokens in a batch at most, save for one longer text; more delays short texts."
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
        16 * MIB, ge=1024, le=2_000_000_000, description="Size of a request message at most."
    )
    max_response_bytes: int = Field(
        64 * MIB, ge=1024, le=2_000_000_000, description="Size of an answer at most; refused before anything runs."
    )
    max_connection_age: float = Field(
        300.0,
        gt=0,
        le=2_000_000,
        description="Seconds after which clients are told to reconnect, so that new replicas get a share.",
    )
    drain_pause: float = Field(
        1.0, ge=0, le=3600, description="Seconds of serving on after SIGTERM, while load balancers notice NOT_SERVING."
    )
    grace: float = Field(
        30.0, ge=0, le=3600, description="Seconds that accepted calls have to finish after the drain pause."
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
        """Flags before environment before defaults."""
        return init_settings, _Environment(settings_cls)


def read_settings(arguments: list[str]) -> Settings:
    """Settings from arguments and the environment. Raises SettingsError; `--help` and unknown flags exit."""
    try:
        return Settings(_cli_parse_args=arguments)  # type: ignore[call-arg]
    except ValidationError as error:
        first = error.errors()[-1]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        flag = name if name == "bundles" else f"--{name.replace('_', '-')}"
        raise SettingsError(f"{flag} (BERTSERVE_{name.upper()}): {first['msg']}") from error


def named_bundles(settings: Settings) -> dict[str, Path]:
    """Name → directory, in the order given. A bare DIR is named by its last path component.

    Raises SettingsError for an empty or repeated name.
    """
    if not settings.bundles:
        return {DEMO_BUNDLE.name: DEMO_BUNDLE}
    bundles: dict[str, Path] = {}
    for argument in settings.bundles:
        name, equals, directory = argument.partition("=")
        path = Path(directory if equals else argument)
        name = name if equals else path.resolve().name
        if not name or not (directory if equals else argument):
            raise SettingsError(f"bundle {argument!r}: give DIR or NAME=DIR")
        if name in bundles:
            raise SettingsError(f"bundle name {name!r} is given twice; name one of them otherwise, as in other={path}")
        bundles[name] = path
    return bundles
