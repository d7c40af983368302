"""Programs that start without some of their standard streams."""

from __future__ import annotations

from collections.abc import Sequence


def without_streams(descriptors: Sequence[int], words: Sequence[str]) -> list[str]:
    """Return a command that closes `descriptors` and then becomes the command `words`.

    A shell closes them. `preexec_fn` would fork this process, and gRPC's handlers of forks can leave the connections of
    other tests dead: "file descriptor was created pre fork".
    """
    if not descriptors:
        return list(words)
    closing = " ".join(f"{descriptor}>&-" for descriptor in descriptors)
    return ["/bin/sh", "-c", f'exec "$@" {closing}', "sh", *words]
