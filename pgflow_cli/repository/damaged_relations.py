"""Names what is damaged: the server names only a file, or an index without a schema."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from pgflow_cli.errors import DataDamaged, PgflowError

if TYPE_CHECKING:
    from pgflow_cli.repository.connection import Link

Relation = tuple[str, bool]  # its name for SQL, and whether it is an index


class DamagedRelations:
    """The relations that messages of the server are about; each is asked for once."""

    def __init__(self) -> None:
        self._known: dict[str, Relation] = {}

    def name_damaged_relation(self, damaged: DataDamaged, link: Link) -> DataDamaged:
        """Return the error with its relation, asked over another connection, which is
        closed.
        """
        if damaged.message not in self._known:
            with suppress(PgflowError, IndexError):
                wanted = {"message": damaged.message}
                [name, is_index] = link.tuples("name_damaged_relation", wanted)[0]
                self._known[damaged.message] = (name, is_index)
            link.close()
        name, is_index = self._known.setdefault(damaged.message, ("", False))
        where = f", which is {name}" if name else ""
        found = DataDamaged(
            damaged.message + where, *damaged.hints, relation=name, is_index=is_index
        )
        if found.repair:
            found.hints = (f"Mend it, as its owner: {found.repair}", *found.hints)
        return found
