"""What the command `classifaily` starts, also where the command line's own packages are not installed."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from classifaily_connectors.cli import main as command
    except ImportError as error:
        sys.exit(f"error: {error}")
    command()


if __name__ == "__main__":
    main()
