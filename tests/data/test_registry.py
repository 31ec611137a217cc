"""The registry's facts are complete and consistent."""

from __future__ import annotations

import re

import pytest

from fairstem.data import record, records
from fairstem.errors import DataError


def test_every_record_is_complete():
    names = [r.name for r in records()]
    assert names == sorted(set(names))
    for r in records():
        assert re.fullmatch("[0-9a-f]{64}", r.sha256), r.name
        assert re.fullmatch("[0-9a-f]{40}", r.commit), r.name
        assert r.bytes > 0
        assert r.licence
        assert len(r.description) > 10
        assert r.url.startswith(f"https://raw.githubusercontent.com/{r.repository}/{r.commit}/")
        assert " " not in r.url
        assert r.derived_from or r.url.endswith(r.name.replace(" ", "%20"))
        assert r.repository in r.citation


def test_no_ambiguous_names():
    assert not {r.name for r in records()} & {"LICENSE", "LICENSE.txt", "README.md", "INDEX.tsv"}


def test_record_as_dictionary():
    assert record("16_STOimage_1.ser").to_dict()["url"].endswith("/ncempy/data/16_STOimage_1.ser")


def test_unknown_name_proposes_similar_ones():
    with pytest.raises(DataError, match=r"no sample file '16_STOimage.ser'.*16_STOimage_1.ser"):
        record("16_STOimage.ser")
    with pytest.raises(DataError, match="list the names"):
        record("§§§")
