"""`python -m pgflow_cli` is `pgflow`; the installed program begins here, too."""

from __future__ import annotations

from pgflow_cli.cli import startup


def main() -> None:
    """Run `pgflow`."""
    startup.hold_signals()
    startup.open_standard_streams()
    from pgflow_cli.cli.program import main  # noqa: PLC0415 - a signal may come meanwhile

    main()


if __name__ == "__main__":
    main()
