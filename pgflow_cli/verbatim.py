"""The members of a JSON object as they were written, not as Python would write them.

1.10 stays 1.10, and keys keep their order: a payload is given on as the text it was.
"""

from __future__ import annotations

import json
import re

_BLANKS = re.compile(r"[ \t\n\r]*")
# Only where a value ends is of interest: its numbers are never computed.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


def members(text: str) -> dict[str, str]:
    """Return the text of each member of an object that `payloads.check` has passed.

    Of a name that comes twice the last one counts, as in PostgreSQL.
    """
    found: dict[str, str] = {}
    place = _after_blanks(text, text.index("{") + 1)
    while text[place] != "}":
        name, place = _DECODER.raw_decode(text, place)
        begin = _after_blanks(text, text.index(":", place) + 1)
        _, end = _DECODER.raw_decode(text, begin)
        found[name] = text[begin:end]
        place = _after_blanks(text, end)
        if text[place] == ",":
            place = _after_blanks(text, place + 1)
    return found


def _after_blanks(text: str, place: int) -> int:
    match = _BLANKS.match(text, place)
    return place if match is None else match.end()
