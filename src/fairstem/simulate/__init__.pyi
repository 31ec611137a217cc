from ._phantoms import Phantom as Phantom
from ._phantoms import phantom as phantom
from ._phantoms import phantoms as phantoms
from ._scan4d import SimulatedScan as SimulatedScan
from ._scan4d import electrons_per_pattern as electrons_per_pattern
from .backgrounds import AmorphousBackground as AmorphousBackground
from .backgrounds import RampBackground as RampBackground
from .backgrounds import StepBackground as StepBackground
from .defective import DefectiveCrystal as DefectiveCrystal
from .defective import with_boundary as with_boundary
from .defective import with_strain_dipole as with_strain_dipole
from .defective import with_vacancy as with_vacancy
from .defects import add_interstitials as add_interstitials
from .defects import displace_columns as displace_columns
from .defects import remove_columns as remove_columns
from .defects import scale_columns as scale_columns
from .deformations import dislocate as dislocate
from .deformations import join_grains as join_grains
from .deformations import strain_columns as strain_columns
from .lattices import ProjectedCell as ProjectedCell
from .lattices import Site as Site
from .lattices import bravais_cell as bravais_cell
from .lattices import cspbbr3 as cspbbr3
from .lattices import fcc110 as fcc110
from .lattices import fcc111 as fcc111
from .lattices import graphene as graphene
from .lattices import silicon110 as silicon110
from .lattices import square as square
from .lattices import srtio3 as srtio3
from .lattices import ws2 as ws2
from .multislice import multislice_scan as multislice_scan
from .nanoparticle import fcc_particle as fcc_particle
from .nanoparticle import nanoparticle_columns as nanoparticle_columns
from .noise import add_noise as add_noise
from .pacbed import Diffuse as Diffuse
from .pacbed import PacbedTable as PacbedTable
from .pacbed import pacbed_table as pacbed_table
from .render import render_columns as render_columns
from .scan import RowDistortion as RowDistortion
from .scan import ScanDistortion as ScanDistortion
from .scan import recorded_positions as recorded_positions
from .structures import Structure as Structure
from .structures import crystal as crystal
from .thin import thin_scan as thin_scan

__all__ = [
    "AmorphousBackground",
    "DefectiveCrystal",
    "Diffuse",
    "PacbedTable",
    "Phantom",
    "ProjectedCell",
    "RampBackground",
    "RowDistortion",
    "ScanDistortion",
    "SimulatedScan",
    "Site",
    "StepBackground",
    "Structure",
    "add_interstitials",
    "add_noise",
    "bravais_cell",
    "crystal",
    "cspbbr3",
    "dislocate",
    "displace_columns",
    "electrons_per_pattern",
    "fcc110",
    "fcc111",
    "fcc_particle",
    "graphene",
    "join_grains",
    "multislice_scan",
    "nanoparticle_columns",
    "pacbed_table",
    "phantom",
    "phantoms",
    "recorded_positions",
    "remove_columns",
    "render_columns",
    "scale_columns",
    "silicon110",
    "square",
    "srtio3",
    "strain_columns",
    "thin_scan",
    "with_boundary",
    "with_strain_dipole",
    "with_vacancy",
    "ws2",
]
