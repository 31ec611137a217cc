"""The example of symmetry maps runs, and its numbers are right."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

from fairstem import simulate
from fairstem.errors import MissingDependencyError

EXAMPLE = Path(__file__).parents[2] / "examples" / "symmetry_srtio3.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("symmetry_srtio3", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def small(example, tmp_path_factory):
    folder = tmp_path_factory.mktemp("symmetry")
    return folder, example.main(["--thin", "--scan", "12", "--out", str(folder)])


def test_both_doses_and_operations_are_in_the_table(small):
    folder, table = small
    assert len(table) == 4
    assert table["electrons"].round().unique().tolist() == [11796, 1180]
    written = pd.read_csv(folder / "symmetry_srtio3.csv")
    assert written["rms_corrected"].tolist() == pytest.approx(table["rms_corrected"].tolist(), rel=1e-5)
    assert (folder / "symmetry_srtio3.png").stat().st_size > 20_000


def test_correction_leaves_what_its_error_bars_say(small):
    _, table = small
    assert (table["rms_corrected"] < 0.3 * table["rms_as_recorded"]).all()
    assert (table["bias"].abs() < 4 * table["rms_corrected"] / 24).all()  # 24² positions
    assert table["within"].between(0.60, 0.76).all()


def test_without_abtem_it_says_what_to_do(example, monkeypatch, tmp_path, capsys):
    def missing(*_, **__):
        raise MissingDependencyError("multislice needs abTEM", todo='pip install "fairstem[simulate]"')

    monkeypatch.setattr(simulate, "multislice_scan", missing)
    with pytest.raises(SystemExit) as stopped:
        example.main(["--out", str(tmp_path / "out")])
    assert stopped.value.code == 3
    said = capsys.readouterr().err
    assert "fairstem[simulate]" in said
    assert "--thin" in said
    assert not (tmp_path / "out").exists()
