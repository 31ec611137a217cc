"""The samples of the tour: real images, the phantoms that stand in, and what is known of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fairstem.cli.tour_stops import Stop

__all__ = ["SAMPLES", "Sample"]


@dataclass(frozen=True, kw_only=True)
class Sample(Stop):
    """An image whose columns are measured.

    Parameters
    ----------
    file
        Name of the sample file in `fairstem.data`.
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
    """

    file: str
    load: Mapping[str, Any] = field(default_factory=dict)
    find: Mapping[str, Any] = field(default_factory=dict)
    reference_nm: tuple[float, ...] = ()
    reference: str = ""
    fitted_by: str = ""


SAMPLES = (
    Sample(
        name="srtio3",
        title="SrTiO₃ [100] at 80 kV",
        file="16_STOimage_1.ser",
        about="A single scan as the microscope saved it. Bright columns are Sr, dim ones Ti with O. The lattice "
        "parameter is known to 0.01 pm, so its measured value tests the microscope's calibration, and the "
        "difference between the two directions shows the distortion of the scan.",
        phantom="srtio3",
        options={"shape": (384, 384), "peak": 60.0},
        reference_nm=(0.3905,),
        reference="lattice parameter of SrTiO₃",
        quick=True,
    ),
    Sample(
        name="si110",
        title="Si [110] dumbbells",
        file="derived_01_Si110_frame.tif",
        about="Pairs of columns 136 pm apart overlap, and are fitted together. The file has lost its pixel size: "
        "everything is in pixels until someone gives it.",
        phantom="si110",
        options={"shape": (384, 384), "peak": 60.0},
    ),
    Sample(
        name="si110-picture",
        title="Si [110], an 8-bit picture",
        file="Si110_5nmX25us_03_none_none.png",
        about="The same crystal as a screenshot-like PNG of another laboratory: grey levels are no counts and the "
        "brightest columns are cut off. The numbers below carry that warning.",
        phantom="si110",
        options={"shape": (256, 256), "peak": 20.0, "saturation": 18.0},
    ),
    Sample(
        name="cspbbr3",
        title="CsPbBr₃ against StatSTEM",
        file="Example3.mat",
        about="The file brings along 415 columns fitted with StatSTEM by its authors, with species. They are "
        "compared one by one with the columns found here; nothing of them is used to find these.",
        phantom="cspbbr3",
        options={"shape": (256, 256), "peak": 80.0},
        fitted_by="StatSTEM",
        quick=True,
    ),
    Sample(
        name="srtio3-adf",
        title="SrTiO₃ [110], annular dark field",
        file="STO_ADF.hdf5",
        about="The file kept its pixel size but lost the unit. fairstem says so and does not guess; the tour "
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
        name="au-particle",
        title="A gold nanoparticle against Atomap",
        file="Au_NP_Atom_Lattice.hdf5",
        about="The particle covers part of the image only. Its 141 columns fitted with Atomap by the authors come "
        "with the file and are compared one by one.",
        phantom="pt-nanoparticle",
        fitted_by="Atomap",
    ),
)
