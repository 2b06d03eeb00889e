"""The page's static files: read once, then served from memory by their names.

What a URL says is looked up in a dict that was made at the start: no part of it ever
reaches the file system.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType

from werkzeug.wrappers import Request, Response

from pgflow_cli.admin.problems import Problem
from pgflow_cli.admin.query import Field, text
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.security import Role

FOLDER = Path(__file__).parents[1] / "static"
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".ico": "image/vnd.microsoft.icon",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_COMPRESSED = (".css", ".js", ".svg", ".txt")
# The hash in the URL changes with the file, so a browser need not ask again; another
# hash may come from a page of another version, and must not be kept under that name.
_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"


def takes_gzip(request: Request) -> bool:
    """Whether the answer to a request may be compressed."""
    return request.accept_encodings.quality("gzip") > 0


@dataclass(frozen=True, slots=True)
class Asset:
    """A static file. `small` is its compressed body, where that is worth while."""

    name: str
    body: bytes
    small: bytes | None
    media_type: str
    version: str

    @classmethod
    def read(cls, path: Path) -> Asset:
        """Return a file of ours."""
        body = path.read_bytes()
        small = gzip.compress(body, 9, mtime=0) if path.suffix in _COMPRESSED else None
        version = hashlib.sha256(body).hexdigest()[:16]
        return cls(path.name, body, small, _MEDIA_TYPES[path.suffix], version)

    def response(self, request: Request, version: str | None) -> Response:
        """Return it as the request can take it, or 304 if it has not changed."""
        small = self.small if takes_gzip(request) else None
        response = Response(
            self.body if small is None else small, content_type=self.media_type
        )
        response.headers["Cache-Control"] = (
            _FOR_EVER if version == self.version else _ASK_AGAIN
        )
        response.set_etag(self.version if small is None else f"{self.version}-gzip")
        if self.small is not None:
            response.headers["Vary"] = "Accept-Encoding"
        if small is not None:
            response.headers["Content-Encoding"] = "gzip"
        return response.make_conditional(request)


def _read_all() -> Mapping[str, Asset]:
    paths = (path for path in FOLDER.iterdir() if path.suffix in _MEDIA_TYPES)
    return MappingProxyType({path.name: Asset.read(path) for path in sorted(paths)})


ASSETS = _read_all()


def asset_url(name: str, root: str = "") -> str:
    """Return where a static file is, below the path that a gateway puts before ours.

    Raises `KeyError` if there is none: a template would be wrong.
    """
    return f"{root}/static/{name}?v={ASSETS[name].version}"


def static(call: Call) -> Response:
    """Return a static file."""
    asset = ASSETS.get(call.path["name"])
    if asset is None:
        raise Problem(HTTPStatus.NOT_FOUND, "there is no such file")
    return asset.response(call.request, call.query["v"])


def no_icon(_call: Call) -> Response:
    """Say that there is no icon: browsers ask for one with JSON, too."""
    kept = {"Cache-Control": "public, max-age=86400"}
    return Response(status=HTTPStatus.NO_CONTENT, headers=kept)


_VERSION = Field("v", text(re.compile("[0-9a-f]{1,64}"), "a hash", most=64))

ROUTES = (
    Route(
        "GET",
        "/static/<name>",
        static,
        "A static file of the page.",
        query=(_VERSION,),
        role=Role.ANONYMOUS,
        of_page=True,
    ),
    Route(
        "GET",
        "/favicon.ico",
        no_icon,
        "Nothing.",
        status=204,
        role=Role.ANONYMOUS,
        of_page=True,
    ),
)
SHAPES = ()
