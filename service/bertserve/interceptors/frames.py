"""What an error keeps alive: the frames it was raised through, and with them the request."""

from __future__ import annotations


def forget_frames(error: BaseException) -> None:
    """Of a call that was refused. gRPC's state of the call keeps the error, whose frames keep that state: the garbage
    collector would free them some gigabytes later."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__context__
