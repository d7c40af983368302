"""The command `bertexport`: ready to be interrupted before anything heavy is loaded."""

from __future__ import annotations

import sys
from typing import NoReturn

from bertserve.process.streams import mend_streams

from bertexport.interruption import exit_when_interrupted
from bertexport.streams import accept_every_letter


def main() -> NoReturn:
    """Run the command; exits with 0, 1 after a refusal, 2 for wrong arguments, 130 when interrupted."""
    mend_streams()
    exit_when_interrupted()
    accept_every_letter()
    try:
        # Takes a few tenths of a second, in which Ctrl-C is as likely as in any other.
        from bertexport.command import app

        app()
    except ModuleNotFoundError as error:
        sys.exit(f"bertexport: {error.name} is missing: pip install 'bertserve[export]'")
    sys.exit(0)


if __name__ == "__main__":
    main()
