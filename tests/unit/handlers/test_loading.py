"""Finding handlers: every form of --app, --handlers-dir, --exec and --simulate."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from pgflow_cli import handlers
from pgflow_cli.errors import ConfigurationError
from pgflow_cli.handlers import loading
from tests.support.leased_jobs import leased

HEAD = "from pgflow_cli.handlers import App\n"
APP = HEAD + "app = App()\n@app.handler({type!r})\ndef run(job): ...\n"


@pytest.fixture(autouse=True)
def _own_modules() -> Iterator[None]:
    """Forget what a test imports."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(path: str, text: str) -> Path:
    """Write a file into the test's working directory."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def types(*specs: str) -> list[str]:
    return sorted(handlers.load(specs).handlers)


def test_a_module_of_the_working_directory() -> None:
    write("shop_jobs.py", APP.format(type="a"))
    assert types("shop_jobs") == ["a"]


def test_a_module_of_a_package() -> None:
    write("shop_pkg/__init__.py", "")
    write("shop_pkg/jobs.py", "from shop_pkg import names\n" + APP.format(type="a"))
    write("shop_pkg/names.py", "")
    assert types("shop_pkg.jobs") == ["a"]


def test_an_attribute_of_a_module() -> None:
    write("shop_attr.py", APP.format(type="a") + "class inner:\n    mine = app\n")
    assert types("shop_attr:inner.mine") == ["a"]


def test_a_factory() -> None:
    body = "    app = App()\n    app.handler('a')(lambda job: None)\n    return app\n"
    write("shop_factory.py", HEAD + "def make():\n" + body + "def app():\n" + body)
    assert types("shop_factory:make") == ["a"]
    assert types("shop_factory") == ["a"]


def test_a_file(tmp_path: Path) -> None:
    text = "import beside_it\n" + APP.format(type="a") + "other = app\n"
    file = write("elsewhere/shop_file.py", text)
    write("elsewhere/beside_it.py", "")
    assert types("elsewhere/shop_file.py") == ["a"]
    assert types(str(file.resolve())) == ["a"]
    assert types("./elsewhere/shop_file.py:other") == ["a"]
    assert types(f"{tmp_path}/elsewhere/shop_file.py:app") == ["a"]


def test_a_file_named_like_a_module_that_is_loaded() -> None:
    write("json.py", APP.format(type="a"))
    assert types("./json.py") == ["a"]
    assert "dumps" in vars(sys.modules["json"])


def test_typed_payloads_in_a_file() -> None:
    write(
        "shop_typed.py",
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        + HEAD
        + "app = App()\n@app.handler('a')\ndef run(job, payload: Later): ...\n"
        "@dataclass\nclass Later:\n    n: int\n",
    )
    app = handlers.load(["shop_typed.py"])
    assert app.run("a", {"n": 1}).status == "succeeded"
    assert app.run("a", {"n": "1"}).error_code == "BAD_PAYLOAD"


def test_several_are_merged() -> None:
    write("shop_one.py", APP.format(type="a"))
    write("shop_two.py", APP.format(type="b"))
    assert types("shop_one", "shop_two.py", "shop_one:app") == ["a", "b"]


def test_a_type_that_two_applications_handle_is_refused() -> None:
    write("shop_one.py", APP.format(type="a"))
    write("shop_two.py", APP.format(type="a"))
    with pytest.raises(
        ConfigurationError,
        match="a is declared twice: by shop_one:run and by shop_two:run",
    ):
        handlers.load(["shop_one", "shop_two"])


@pytest.mark.parametrize(
    ("text", "spec", "words"),
    [
        ("", "shop_nowhere", "cannot load shop_nowhere: ModuleNotFoundError"),
        ("", "shop_bad", "shop_bad has no attribute app"),
        ("", "shop_bad.py", "shop_bad has no attribute app"),
        ("x = 1", "shop_bad:x", "it is int, neither an App nor a function"),
        ("def app(): return 1", "shop_bad", "it is int, neither an App"),
        ("def app(x): ...", "shop_bad", "cannot load shop_bad: TypeError"),
        ("1 / 0", "shop_bad", "cannot load shop_bad: ZeroDivisionError"),
        (
            "raise SystemExit(3)",
            "shop_bad.py",
            "cannot load shop_bad.py: SystemExit: 3",
        ),
        ("def f(", "shop_bad.py", "cannot load shop_bad.py: SyntaxError"),
        ("import shop_gone", "shop_bad", "No module named 'shop_gone'"),
        ("", "shop_gone.py", "there is no file shop_gone.py"),
        ("", "a/b", "there is no file a/b"),
        ("", ":app", "cannot load :app"),
        (
            HEAD + "app = App()\n@app.handler('a')\ndef f(job, p: 'Gone'): ...",
            "shop_bad",
            r"the payload type of a \(shop_bad:f\) cannot be found",
        ),
        (
            HEAD + "app = App()\n@app.handler('a b')\ndef f(job): ...",
            "shop_bad",
            "'a b' of shop_bad:f: job_type must be",
        ),
    ],
)
def test_what_cannot_be_loaded_says_why(text: str, spec: str, words: str) -> None:
    write("shop_bad.py", text)
    with pytest.raises(ConfigurationError, match=words) as raised:
        handlers.load([spec])
    assert raised.value.exit_code == 78


def test_where_an_import_broke_is_a_hint() -> None:
    write("shop_deep.py", "\n\n1 / 0\n")
    with pytest.raises(ConfigurationError) as raised:
        handlers.load(["shop_deep"])
    assert raised.value.hints[0].endswith("shop_deep.py:3; --debug shows the traceback")


def test_a_file_that_breaks_can_be_loaded_once_it_is_mended() -> None:
    write("shop_mended.py", "1 / 0")
    with pytest.raises(ConfigurationError):
        handlers.load(["shop_mended.py"])
    write("shop_mended.py", APP.format(type="a"))
    assert types("shop_mended.py") == ["a"]


# Entry points.


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package that announces handlers."""
    site = tmp_path / "site"
    write(str(site / "shop_installed.py"), APP.format(type="installed"))
    information = site / "shop-1.0.dist-info"
    write(
        str(information / "METADATA"), "Metadata-Version: 2.1\nName: shop\nVersion: 1\n"
    )
    write(
        str(information / "entry_points.txt"),
        "[pgflow.handlers]\none = shop_installed:app\ntwo = shop_installed\n",
    )
    monkeypatch.syspath_prepend(str(site))
    assert metadata.distribution("shop").version == "1"


@pytest.mark.usefixtures("installed")
def test_installed_packages_announce_handlers_by_entry_points() -> None:
    assert types() == ["installed"]


@pytest.mark.usefixtures("installed")
def test_named_applications_are_the_only_ones() -> None:
    write("shop_one.py", APP.format(type="a"))
    assert types("shop_one") == ["a"]


@pytest.mark.usefixtures("installed")
def test_real_handlers_keep_simulated_ones_away() -> None:
    assert sorted(handlers.load(simulate=True).handlers) == ["installed"]


# Programs.


def program(path: str, mode: int = 0o755) -> Path:
    file = write(path, "#!/bin/sh\nexit 0\n")
    file.chmod(mode)
    return file


def test_each_executable_of_a_directory_handles_the_type_it_is_named_after(
    caplog: pytest.LogCaptureFixture,
) -> None:
    program("bin/image_resize")
    program("bin/report.build")
    program("bin/.hidden")
    program("bin/README", 0o644)
    Path("bin/lib").mkdir()
    app = handlers.load(handlers_dir="bin")
    assert sorted(app.handlers) == ["image_resize", "report.build"]
    handler = app.handlers["image_resize"]
    assert (handler.kind, handler.source) == ("executable", "bin/image_resize")
    assert handler.command == (str(Path("bin/image_resize").resolve()),)
    assert "bin/README cannot be executed and is not a handler" in caplog.text


def test_a_file_whose_name_is_no_job_type_is_refused() -> None:
    program("bin/resize image")
    with pytest.raises(
        ConfigurationError, match=r"'resize image' of .*: job_type must be"
    ):
        handlers.load(handlers_dir="bin")


def test_a_directory_that_is_missing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="directory bin: No such file"):
        handlers.load(handlers_dir="bin")


def test_exec_names_a_command_without_a_shell() -> None:
    app = handlers.load(exec_specs=["a=/bin/echo 'one two' $HOME ; x=y"])
    assert app.handlers["a"].command == (
        "/bin/echo",
        "one two",
        "$HOME",
        ";",
        "x=y",
    )


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("a", "is not of the form TYPE=CMD"),
        ("a=", "is not of the form TYPE=CMD"),
        ("a=  ", "is not of the form TYPE=CMD"),
        ("=true", "'' of .*: job_type is missing"),
        ("a b=true", "'a b' of .*: job_type must be"),
        ("a='true", "No closing quotation"),
        ("a=/nowhere/program", "there is no program /nowhere/program"),
    ],
)
def test_an_exec_option_that_cannot_work_is_refused(spec: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        handlers.load(exec_specs=[spec])


def test_programs_and_applications_share_the_types() -> None:
    write("shop_one.py", APP.format(type="a"))
    with pytest.raises(
        ConfigurationError, match="by shop_one:run and by --exec a=true"
    ):
        handlers.load(["shop_one"], exec_specs=["a=true"])


# Nothing else.


def test_simulated_handlers_are_used_when_there_are_no_others() -> None:
    assert sorted(handlers.load(simulate=True).handlers) == [
        "demo_flaky",
        "demo_ok",
        "demo_slow",
        "email_send",
        "fail_me",
        "ok",
    ]


def test_without_anything_there_are_no_handlers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "_entry_points", list)
    assert handlers.load().handlers == {}


def test_a_job_type_never_imports_anything() -> None:
    app = handlers.load(simulate=True)
    for job_type in ("os.system", "shop_jobs:run", "pgflow_cli.handlers.examples:ok"):
        before = set(sys.modules)
        assert job_type not in app.handlers
        handler = app.handlers.get(job_type, handlers.UNKNOWN)
        job = handlers.prepare(handler, leased(job_type=job_type))
        assert handlers.run(handler, job).error_code == "UNKNOWN_JOB_TYPE"
        assert set(sys.modules) == before
