import pytest
from typer.testing import CliRunner


@pytest.fixture
def fairstem():
    """Run a verb in this process; the result has exit_code, stdout and stderr."""
    from fairstem.cli.app import app

    runner = CliRunner()

    def run(*arguments):
        return runner.invoke(app, [str(a) for a in arguments])

    return run


@pytest.fixture(scope="session")
def phantom_file(tmp_path_factory):
    """A calibrated SrTiO3 phantom of 96 px, with its truth beside it."""
    from fairstem.cli.app import app

    path = tmp_path_factory.mktemp("phantom") / "srtio3.hspy"
    done = CliRunner().invoke(
        app, ["simulate", "srtio3", "-o", str(path), "--shape", "96,96", "--peak", "100", "--quiet"]
    )
    assert done.exit_code == 0, done.output
    return path


@pytest.fixture
def without_pictures(monkeypatch):
    """Leave the drawing out where a test looks at something else: it takes most of the time."""
    from fairstem.cli import (
        align_figures,
        align_files,
        atoms_files,
        atoms_page,
        denoise_files,
        denoise_page,
        symmetry_files,
        symmetry_page,
    )

    monkeypatch.setattr(atoms_page, "figures", lambda measured: [])
    monkeypatch.setattr(atoms_files, "overlay_png", lambda measured, dpi: b"\x89PNG")
    monkeypatch.setattr(denoise_page, "figures", lambda denoised: [])
    monkeypatch.setattr(denoise_files, "before_after_png", lambda denoised, dpi: b"\x89PNG")
    monkeypatch.setattr(symmetry_page, "figures", lambda scanned: [])
    monkeypatch.setattr(symmetry_files, "maps_png", lambda scanned, dpi: b"\x89PNG")
    for name in align_figures.PICTURES:
        monkeypatch.setattr(align_figures, name, lambda registered: None)
    monkeypatch.setattr(align_files, "average_png", lambda registered, dpi: b"\x89PNG")
