from . import blocks as blocks
from . import devices as devices
from . import lazy as lazy
from . import memory as memory
from . import outputs as outputs
from . import plans as plans
from . import progress as progress
from . import reductions as reductions
from . import summaries as summaries
from . import threads as threads
from .blocks import map_blocks as map_blocks
from .blocks import reduce as reduce
from .blocks import stream as stream
from .devices import Device as Device
from .devices import choose as choose
from .lazy import map_items as map_items
from .memory import format_bytes as format_bytes
from .memory import parse_bytes as parse_bytes
from .outputs import staged_output as staged_output
from .outputs import write_text as write_text
from .plans import BlockPlan as BlockPlan
from .plans import plan as plan
from .progress import track as track
from .reductions import Reduction as Reduction
from .summaries import summarise as summarise
from .threads import map_threads as map_threads
from .threads import n_threads as n_threads

__all__ = [
    "BlockPlan",
    "Device",
    "Reduction",
    "blocks",
    "choose",
    "devices",
    "format_bytes",
    "lazy",
    "map_blocks",
    "map_items",
    "map_threads",
    "memory",
    "n_threads",
    "outputs",
    "parse_bytes",
    "plan",
    "plans",
    "progress",
    "reduce",
    "reductions",
    "staged_output",
    "stream",
    "summaries",
    "summarise",
    "threads",
    "track",
    "write_text",
]
