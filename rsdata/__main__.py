"""Runs the command line; errors end in one sentence, not in a traceback."""

import sys

from rsdata.commands import app
from rsdata.commands.console import err
from rsdata.errors import RsdataError


def main() -> None:
    """Run the command line."""
    try:
        app()
    except RsdataError as error:
        err.print(f"rsdata: {error}", style="red", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt as stop:
        err.print("rsdata: stopped; the same command goes on from here")
        sys.exit(getattr(stop, "exit_code", 130))


if __name__ == "__main__":
    main()
