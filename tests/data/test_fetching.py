"""Lookup order, hash checks, and what happens without network."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tifffile

from fairstem.data import available, fetch, fetching, record, records
from fairstem.errors import DataError, OutputError

NAME = "BSSN5137.cif"  # 2 kB


@pytest.fixture
def crystal(sample):
    """A small sample file; asked for before `nowhere`, which hides all of them."""
    return sample(NAME)


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No data anywhere: empty FAIRSTEM_DATA, empty cache, no checkout, no network."""
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.setenv("FAIRSTEM_DATA", str(folder))
    monkeypatch.setattr(fetching, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(fetching, "__file__", str(tmp_path / "a" / "b" / "c" / "d" / "fetching.py"))

    def refuse(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr("requests.get", refuse)
    return folder


def test_no_network_tells_what_to_do(nowhere):
    assert not available(NAME)
    with pytest.raises(DataError, match=r"can't be downloaded.*download https://.*set FAIRSTEM_DATA"):
        fetch(NAME)


@pytest.mark.parametrize("sub", ["", "one", "one/two"])
def test_own_folder_flat_or_in_sub_folders(crystal, nowhere, sub):
    (nowhere / sub).mkdir(parents=True, exist_ok=True)
    shutil.copy(crystal, nowhere / sub / NAME)
    assert available(NAME)
    assert fetch(NAME) == nowhere / sub / NAME


def test_wrong_hash_is_an_error(nowhere):
    (nowhere / NAME).write_text("not a crystal")
    for function in (fetch, available):
        with pytest.raises(DataError, match=r"not the file of the registry.*delete it"):
            function(NAME)


def test_right_copy_wins_over_a_wrong_one_in_the_same_folder(crystal, tmp_path, monkeypatch):
    (tmp_path / NAME).write_text("not a crystal")
    (tmp_path / "sub").mkdir()
    shutil.copy(crystal, tmp_path / "sub" / NAME)
    monkeypatch.setenv("FAIRSTEM_DATA", str(tmp_path))
    assert fetch(NAME) == tmp_path / "sub" / NAME


def test_wrong_folder_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("FAIRSTEM_DATA", str(tmp_path / "nothing"))
    with pytest.raises(DataError, match="which is no folder"):
        fetch(NAME)


def test_download_is_checked_and_kept(crystal, nowhere, monkeypatch):
    wanted = record(NAME)
    content = crystal.read_bytes()
    sent = []

    class Answer:
        def __init__(self, body):
            self.body = body
            self.headers = {}

        def raise_for_status(self):
            pass

        def iter_content(self, chunk_size):
            yield self.body

        def close(self):
            pass

    def get(url, **options):
        sent.append(url)
        return Answer(content if len(sent) > 1 else b"altered")

    monkeypatch.setattr("requests.get", get)
    with pytest.raises(DataError, match="has the wrong hash"):
        fetch(NAME)
    path = fetch(NAME)
    assert path.read_bytes() == content
    assert fetch(NAME) == path
    assert sent == [wanted.url] * 2


def test_frame_is_carved_from_its_original(sample, tmp_path, monkeypatch):
    source, given = sample("01_Si110_5images.emi"), sample("derived_01_Si110_frame.tif")
    folder = tmp_path
    monkeypatch.setattr(fetching, "cache_folder", lambda: folder / "cache")
    carved = fetching._carve(source, record("derived_01_Si110_frame.tif"))
    assert np.array_equal(tifffile.imread(carved), tifffile.imread(given))
    assert [p.name for p in (folder / "cache").iterdir()] == [carved.name]
    damaged = folder / "damaged.emi"
    damaged.write_bytes(source.read_bytes()[:-10000].ljust(3_000_000, b"\0"))
    with pytest.raises(DataError, match="not the file of the registry"):
        fetching._carve(damaged, record("derived_01_Si110_frame.tif"))
    assert [p.name for p in (folder / "cache").iterdir()] == [carved.name]
    (folder / "file").touch()
    monkeypatch.setattr(fetching, "cache_folder", lambda: folder / "file")
    with pytest.raises(OutputError, match="can't be written"):
        fetching._carve(source, record("derived_01_Si110_frame.tif"))


def test_all_local_files_have_their_hash():
    here = [r for r in records() if available(r.name)]
    if not here:
        pytest.skip("no sample file is on this machine (set FAIRSTEM_DATA to their folder)")
    assert all(fetch(r.name).is_file() for r in here)
