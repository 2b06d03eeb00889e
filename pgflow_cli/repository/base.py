"""The base class of the repository's nouns: each sends its statements over a `Link`."""

from __future__ import annotations

from contextlib import AbstractContextManager

from pgflow_cli.repository.connection import Link
from pgflow_cli.repository.database import Database


class Statements:
    """A group of statements over one link; not for several threads at once.

    It keeps nothing but the link, so one noun makes another where it needs its
    statements: `Workers(self.link)`.
    """

    def __init__(self, link: Link) -> None:
        self.link = link

    @property
    def database(self) -> Database:
        return self.link.database

    def transaction(self) -> AbstractContextManager[None]:
        """Run the block's statements in one transaction."""
        return self.link.transaction()

    def close(self) -> None:
        """Close the connection; the next statement opens another."""
        self.link.close()
