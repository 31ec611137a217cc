"""The command line, one file per verb.

Exit codes: 0 done; 1 an error inside fairstem; 2 wrong usage; 3 the input can't be read; 4 the data
don't fit the method; 5 the output can't be written; 130 interrupted (143 when terminated).
"""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        from fairstem.cli.app import app

        app(prog_name="fairstem")
    except KeyboardInterrupt:
        sys.exit(130)
