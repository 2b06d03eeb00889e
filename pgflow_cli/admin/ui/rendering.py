"""Templates in, HTML out: everything that is not markup of ours is escaped."""

from __future__ import annotations

import gzip
import re
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from werkzeug.wrappers import Request, Response

from pgflow_cli.admin.ui.assets import asset_url, takes_gzip

FOLDER = Path(__file__).parents[1] / "templates"
HTML = "text/html; charset=utf-8"
_WORTH_IT = 1400  # characters; less fits into a packet as it is
_QUICKLY = 4  # half a millisecond for a page, an eighth of its bytes
_LOCAL_PATH = re.compile(r"/(?![/\\])[^\x00-\x1f\x7f]*")

ENVIRONMENT = Environment(
    loader=FileSystemLoader(FOLDER),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(
    request: Request,
    name: str,
    *,
    status: int = HTTPStatus.OK,
    environment: Environment = ENVIRONMENT,
    **values: Any,
) -> Response:
    """Return a template as an answer; `root` is what stands before our paths."""
    root = request.root_path
    text = environment.get_template(name).render(
        values, root=root, asset_url=partial(asset_url, root=root)
    )
    response = Response(text, status=status, content_type=HTML)
    response.headers["Vary"] = "Cookie, Accept-Encoding"
    if takes_gzip(request) and len(text) > _WORTH_IT:
        # No token of a visitor's stands in a page, so its length tells none.
        response.set_data(gzip.compress(response.get_data(), _QUICKLY, mtime=0))
        response.headers["Content-Encoding"] = "gzip"
    return response


def local_path(given: str | None) -> str:
    """Return a path of this server's that a form names; of anything else, the first
    page's.
    """
    return given if given and _LOCAL_PATH.fullmatch(given) else "/"
