"""`python -m pgflow_cli` is `pgflow`."""

from __future__ import annotations

from pgflow_cli.cli import main

if __name__ == "__main__":
    main()
