"""The facts of the sample files: where they come from, their hash and their licence."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import quote

from fairstem.errors import DataError

__all__ = ["Record", "record", "records"]


@dataclass(frozen=True)
class Record:
    """One sample file of the registry.

    Parameters
    ----------
    name
        Name by which `fetch` knows it.
    bytes
        Size of the file.
    sha256
        SHA-256 of the file; of the pixels (C order, little-endian) for a derived file.
    repository, commit, path
        The public GitHub repository, commit and path that hold it.
    licence
        Licence of that repository. Cite the repository when results are shown.
    description
        What it is, in one line.
    derived_from
        Name of the file that this one is carved from; empty for an original.
    """

    name: str
    bytes: int
    sha256: str
    repository: str
    commit: str
    path: str
    licence: str
    description: str
    derived_from: str = ""

    @property
    def url(self) -> str:
        """Address of the file at its commit; of the original for a derived file."""
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{quote(self.path)}"

    @property
    def citation(self) -> str:
        """What to cite: repository, commit and licence."""
        return f"https://github.com/{self.repository}, commit {self.commit[:10]}, {self.licence}"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary with the address and the citation."""
        return asdict(self) | {"url": self.url, "citation": self.citation}


# The .emi header holds one frame; its series file was never published, so no reader opens the frame.
_SI110 = "01_Si110_5images.emi"


@cache
def _registry() -> Mapping[str, Record]:
    text = resources.files("fairstem.data").joinpath("registry.tsv").read_text(encoding="utf-8")
    found: dict[str, Record] = {}
    for row in csv.DictReader(text.splitlines(), delimiter="\t"):
        size = int(row.pop("bytes"))
        found[row["name"]] = Record(bytes=size, **row)
    source = found[_SI110]
    found["derived_01_Si110_frame.tif"] = Record(
        name="derived_01_Si110_frame.tif",
        bytes=2097408,
        sha256="134e742131aed448726d6e2888c28f20f6d8e778edd9af30b3d16094546e65b1",
        repository=source.repository,
        commit=source.commit,
        path=source.path,
        licence=source.licence,
        description=f"HAADF of Si [110], 1024 x 1024, 200 kV, carved from {_SI110} (bytes 874 to 2098026)",
        derived_from=_SI110,
    )
    return dict(sorted(found.items()))


def records() -> list[Record]:
    """Return all sample files of the registry, sorted by name.

    Examples
    --------
    >>> [r.licence for r in records() if r.name == "16_STOimage_1.ser"]
    ['GPL-3.0']
    """
    return list(_registry().values())


def record(name: str) -> Record:
    """Return the record of one sample file.

    Raises
    ------
    DataError
        The registry has no file of that name; the message proposes similar ones.
    """
    try:
        return _registry()[name]
    except KeyError:
        near = difflib.get_close_matches(name, _registry(), n=3, cutoff=0.4)
        todo = f"perhaps {' or '.join(near)} was meant" if near else ""
        raise DataError(
            f"there is no sample file {name!r}",
            needed="a name of fairstem.data.records()",
            todo=todo or "list the names with [r.name for r in fairstem.data.records()]",
        ) from None
