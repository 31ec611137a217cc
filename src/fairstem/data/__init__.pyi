from .fetching import available as available
from .fetching import fetch as fetch
from .registry import Record as Record
from .registry import record as record
from .registry import records as records

__all__ = ["Record", "available", "fetch", "record", "records"]
