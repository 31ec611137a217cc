from .lattices import ProjectedCell as ProjectedCell
from .lattices import Site as Site
from .noise import add_noise as add_noise
from .phantoms import Phantom as Phantom
from .phantoms import phantom as phantom
from .phantoms import phantoms as phantoms
from .render import render_columns as render_columns

__all__ = ["Phantom", "ProjectedCell", "Site", "add_noise", "phantom", "phantoms", "render_columns"]
