import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from fairstem import errors
from fairstem.cli.outcome import code_of, guarded


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.FileFormatError("x"), 3),
        (errors.MissingDependencyError("x"), 3),
        (errors.DataError("x"), 4),
        (errors.CalibrationError("x"), 4),
        (errors.DataTypeError("x"), 4),
        (MemoryError(), 4),
        (errors.OutputError("x"), 5),
        (KeyboardInterrupt(), 130),
        (ValueError("x"), 1),
        (OSError("x"), 1),
    ],
)
def test_exit_codes(error, code):
    assert code_of(error) == code


def run(error, **options):
    app = typer.Typer()

    def verb(debug: bool = False) -> None:
        raise error

    app.command()(guarded(verb))
    return CliRunner().invoke(app, ["--debug"] if options.get("debug") else [])


def test_errors_are_three_short_lines_without_traceback():
    done = run(errors.DataError("image has shape (3,)", needed="a 2-D array", todo="pass one frame"))
    assert done.exit_code == 4
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "error: image has shape (3,).",
        "needed: a 2-D array.",
        "do: pass one frame.",
    ]


def test_a_bug_says_that_it_is_one():
    done = run(ZeroDivisionError("division by zero"))
    assert done.exit_code == 1
    assert "this is a bug" in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(monkeypatch):
    assert "Traceback" in run(ZeroDivisionError(), debug=True).stderr
    monkeypatch.setenv("FAIRSTEM_DEBUG", "1")
    assert "Traceback" in run(ZeroDivisionError()).stderr


def test_interrupted_and_out_of_memory():
    assert run(KeyboardInterrupt()).exit_code == 130
    done = run(MemoryError())
    assert done.exit_code == 4
    assert "--dry-run" in done.stderr


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_an_interruption_of_compiled_code_is_one(stop, code):
    def verb() -> None:
        raise SystemError("<kernel> returned a result with an exception set") from stop

    app = typer.Typer()
    app.command()(guarded(verb))
    done = CliRunner().invoke(app, [])
    assert done.exit_code == code
    assert "interrupted" in done.stderr
    assert run(SystemError("something else")).exit_code == 1


def test_a_reader_that_went_away_is_no_error():
    assert run(BrokenPipeError()).exit_code == 0


def test_usage_errors_are_code_2(fairstem):
    assert fairstem("nonsense").exit_code == 2
    assert fairstem("info").exit_code == 2
    assert fairstem("simulate", "p2").exit_code == 2
    assert fairstem("simulate", "p2", "-o", "x.tif").exit_code == 2
    assert fairstem("simulate", "p2", "-o", "x", "--shape", "many").exit_code == 2
    assert fairstem("simulate", "p2", "-o", "x", "--set", "novalue").exit_code == 2


def test_help_and_version(fairstem):
    done = fairstem("--help")
    assert done.exit_code == 0
    for verb in ("info", "atoms", "simulate", "tour", "130 interrupted"):
        assert verb in done.stdout
    assert fairstem("--version").stdout.startswith("fairstem ")


def test_the_command_line_starts_light():
    code = (
        "import sys, fairstem.cli.app; "
        "heavy = ('numpy', 'pandas', 'hyperspy', 'matplotlib', 'dask', 'scipy'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
