"""Finds the handlers that an operator named on the command line."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import shlex
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from pgflow_cli.errors import ConfigurationError, PgflowError
from pgflow_cli.handlers.app import App
from pgflow_cli.handlers.handler import Handler, check_job_type

ENTRY_POINTS = "pgflow.handlers"
SIMULATION = "pgflow_cli.handlers.examples"

log = logging.getLogger("pgflow.worker")


def load(
    app_specs: Sequence[str] = (),
    *,
    handlers_dir: str | os.PathLike[str] | None = None,
    exec_specs: Sequence[str] = (),
    simulate: bool = False,
) -> App:
    """Return one application of everything that was named; raises ConfigurationError.

    A spec is `module[:attr]` or `path/file.py[:attr]`; `attr` is `app` unless named,
    and an App or a function that returns one. Installed packages that announce handlers
    (entry points `pgflow.handlers`) count only when no spec is given, the handlers of
    `simulate` only when there are no others.
    """
    merged = App()
    for found in _distinct(app_specs):
        merged.include(found)
    if handlers_dir is not None:
        for handler in _in_directory(Path(handlers_dir)):
            merged.add(handler)
    for spec in exec_specs:
        merged.add(_from_command(spec))
    if simulate and not merged.handlers:
        merged.include(_from_spec(SIMULATION))
    for handler in merged.handlers.values():
        handler.decode  # noqa: B018 - a payload type that cannot be understood stops the worker, not its first job
    return merged


def _distinct(app_specs: Sequence[str]) -> list[App]:
    """Return each application once, even if two names refer to it."""
    if app_specs:
        found = [_from_spec(spec) for spec in app_specs]
    else:
        found = [_from_entry_point(e) for e in _entry_points()]
    return list({id(app): app for app in found}.values())


def _entry_points() -> list[metadata.EntryPoint]:
    return sorted(metadata.entry_points(group=ENTRY_POINTS), key=lambda e: e.name)


def _from_entry_point(entry: metadata.EntryPoint) -> App:
    name = f"entry point {entry.name} ({entry.value})"
    # An entry point may name a module alone, like a spec.
    target = _guarded(name, entry.load)
    return _as_app(
        name,
        _attribute(name, target, "app") if isinstance(target, ModuleType) else target,
    )


def _from_spec(spec: str) -> App:
    place, attribute = _split(spec)
    if place.endswith(".py") or os.sep in place:
        module = _guarded(spec, lambda: _module_of_file(Path(place)))
    else:
        _make_importable(Path.cwd())
        module = _guarded(spec, lambda: importlib.import_module(place))
    return _as_app(spec, _attribute(spec, module, attribute))


def _split(spec: str) -> tuple[str, str]:
    """Split `place[:attr]`; the colon of a Windows drive does not count."""
    place, colon, attribute = spec.rpartition(":")
    if colon and place and all(part.isidentifier() for part in attribute.split(".")):
        return place, attribute
    return spec, "app"


def _module_of_file(path: Path) -> ModuleType:
    """Import a file under its own name.

    Modules beside it are importable, as if Python had been started with it.
    """
    file = path.resolve()
    if not file.is_file():
        raise ConfigurationError(f"there is no file {path}")
    name = file.stem
    known = sys.modules.get(name)
    if known is not None:
        if getattr(known, "__file__", None) == str(file):
            return known
        # Taken by another module; a name made of the path would split fingerprints at
        # every deploy.
        name = f"pgflow_app_{name}"
    specification = importlib.util.spec_from_file_location(name, file)
    if specification is None or specification.loader is None:
        raise ConfigurationError(f"{path} is not a Python file")
    _make_importable(file.parent)
    module = importlib.util.module_from_spec(specification)
    # Registered first: dataclasses look their module up while it is still being
    # executed.
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _make_importable(directory: Path) -> None:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


def _guarded(spec: str, load_it: Callable[[], Any]) -> Any:
    """Run an application's own code, and name the place of its error."""
    try:
        return load_it()
    except PgflowError:
        raise
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise ConfigurationError(
            f"cannot load {spec}: {type(error).__name__}: {error}",
            f"raised at {place.filename}:{place.lineno}; --debug shows the traceback",
        ) from error


def _attribute(spec: str, module: ModuleType, path: str) -> Any:
    found: Any = module
    for name in path.split("."):
        if not hasattr(found, name):
            raise ConfigurationError(
                f"cannot load {spec}: {module.__name__} has no attribute {path}",
                "name it, as module:attribute: an App, or a function that returns one",
            )
        found = getattr(found, name)
    return found


def _as_app(spec: str, found: Any) -> App:
    if callable(found) and not isinstance(found, App):
        found = _guarded(spec, found)
    if not isinstance(found, App):
        raise ConfigurationError(
            f"cannot load {spec}: it is {type(found).__name__}, neither an App nor a"
            " function that returns one"
        )
    return found


def _in_directory(directory: Path) -> list[Handler]:
    """Return a handler for each executable file, of the type it is named after.

    The whole name counts, extension included, for job types may contain dots. Hidden
    files and directories are passed over, and so is what is no regular file or
    cannot be executed, with a warning.
    """
    try:
        files = sorted(f for f in directory.iterdir() if not f.name.startswith("."))
    except OSError as error:
        raise ConfigurationError(
            f"cannot read the handlers directory {directory}: {error.strerror}"
        ) from error
    found = []
    for file in files:
        if file.is_dir():
            continue
        if not (file.is_file() and os.access(file, os.X_OK)):
            # Opening a named pipe, for example, would wait for a writer.
            odd = file.exists() and not file.is_file()
            log.warning(
                "%s %s and is not a handler",
                file,
                "is no regular file" if odd else "cannot be executed",
                extra={"event": "handler_passed_over", "file": str(file)},
            )
            continue
        found.append(_executable(file.name, (str(file.resolve()),), str(file)))
    return found


def _from_command(spec: str) -> Handler:
    """Return the handler that `TYPE=CMD` names.

    The command is split as a shell would split it, and no shell runs it.
    """
    job_type, equals, text = spec.partition("=")
    try:
        command = tuple(shlex.split(text))
    except ValueError as error:
        raise ConfigurationError(f"--exec {spec}: {error}") from error
    if not equals or not command:
        raise ConfigurationError(f"--exec {spec} is not of the form TYPE=CMD")
    if shutil.which(command[0]) is None:
        raise ConfigurationError(f"--exec {spec}: there is no program {command[0]}")
    return _executable(job_type, command, f"--exec {spec}")


def _executable(job_type: str, command: tuple[str, ...], source: str) -> Handler:
    check_job_type(job_type, source)
    return Handler(job_type, command=command, kind="executable", source=source)
