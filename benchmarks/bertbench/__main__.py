"""The command `bertbench`."""

from __future__ import annotations

import sys
from typing import NoReturn

from bertbench.errors import BenchError

FAILED = 1


def main() -> NoReturn:
    """Run the command; exits with 0, 1 after a failure, 2 for wrong arguments, 130 when interrupted."""
    try:
        # An installation may be incomplete; the line says so before anything is measured.
        from bertbench.command import app

        app()
    except ModuleNotFoundError as error:
        sys.exit(f"bertbench: {error.name} is missing: install bertbench again")
    except BenchError as error:
        print(f"bertbench: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201 (the command's output)
        sys.exit(FAILED)
    except OSError as error:
        if error.filename is None:
            raise
        # A file that a flag names, to read or to write.
        sys.exit(f"bertbench: {error.filename}: {error.strerror}")
    sys.exit(0)


if __name__ == "__main__":
    main()
