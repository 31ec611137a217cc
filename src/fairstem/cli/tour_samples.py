"""The samples of the tour: real images, the phantoms that stand in, and what is known of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["SAMPLES", "Sample"]


@dataclass(frozen=True)
class Sample:
    """One stop of the tour.

    Parameters
    ----------
    name
        Short name, for ``--only``.
    title
        Heading in the report.
    file
        Name of the sample file in `fairstem.data`.
    about
        What it is and what to look for, in plain words.
    phantom, options
        The phantom that stands in when the file can't be had.
    load
        Arguments of `fairstem.load` besides the file, such as a lost unit.
    find
        Arguments of `fairstem.atoms.find`.
    reference_nm
        Known length of a and b, or both, that the lattice is compared with; empty when not known.
    reference
        What that length is.
    fitted_by
        Who fitted the positions that the file brings along; empty when it brings none.
    quick
        Part of the quick tour.
    """

    name: str
    title: str
    file: str
    about: str
    phantom: str
    options: Mapping[str, Any] = field(default_factory=dict)
    load: Mapping[str, Any] = field(default_factory=dict)
    find: Mapping[str, Any] = field(default_factory=dict)
    reference_nm: tuple[float, ...] = ()
    reference: str = ""
    fitted_by: str = ""
    quick: bool = False


SAMPLES = (
    Sample(
        "srtio3",
        "SrTiO₃ [100] at 80 kV",
        "16_STOimage_1.ser",
        "A single scan as the microscope saved it. Bright columns are Sr, dim ones Ti with O. The lattice "
        "parameter is known to 0.01 pm, so its measured value tests the microscope's calibration, and the "
        "difference between the two directions shows the distortion of the scan.",
        phantom="srtio3",
        options={"shape": (384, 384), "peak": 60.0},
        reference_nm=(0.3905,),
        reference="lattice parameter of SrTiO₃",
        quick=True,
    ),
    Sample(
        "si110",
        "Si [110] dumbbells",
        "derived_01_Si110_frame.tif",
        "Pairs of columns 136 pm apart overlap, and are fitted together. The file has lost its pixel size: "
        "everything is in pixels until someone gives it.",
        phantom="si110",
        options={"shape": (384, 384), "peak": 60.0},
    ),
    Sample(
        "si110-picture",
        "Si [110], an 8-bit picture",
        "Si110_5nmX25us_03_none_none.png",
        "The same crystal as a screenshot-like PNG of another laboratory: grey levels are no counts and the "
        "brightest columns are cut off. The numbers below carry that warning.",
        phantom="si110",
        options={"shape": (256, 256), "peak": 20.0, "saturation": 18.0},
    ),
    Sample(
        "cspbbr3",
        "CsPbBr₃ against StatSTEM",
        "Example3.mat",
        "The file brings along 415 columns fitted with StatSTEM by its authors, with species. They are "
        "compared one by one with the columns found here; nothing of them is used to find these.",
        phantom="cspbbr3",
        options={"shape": (256, 256), "peak": 80.0},
        fitted_by="StatSTEM",
        quick=True,
    ),
    Sample(
        "srtio3-adf",
        "SrTiO₃ [110], annular dark field",
        "STO_ADF.hdf5",
        "The file kept its pixel size but lost the unit. fairstem says so and does not guess; the tour "
        "gives nm because the lattice then fits: 390.5 pm one way and 390.5/√2 = 276.1 pm the other, SrTiO₃ "
        "along [110]. Values are sums of a detector that does not count, so "
        "gain and offset are estimated from the image.",
        phantom="srtio3",
        options={"shape": (320, 320), "gain": 40.0, "offset": 500.0, "readout": 30.0, "seed": 3},
        load={"units": "nm"},
        reference_nm=(0.2761, 0.3905),
        reference="SrTiO₃ [110]",
    ),
    Sample(
        "au-particle",
        "A gold nanoparticle against Atomap",
        "Au_NP_Atom_Lattice.hdf5",
        "The particle covers part of the image only. Its 141 columns fitted with Atomap by the authors come "
        "with the file and are compared one by one.",
        phantom="pt-nanoparticle",
        fitted_by="Atomap",
    ),
)
