"""Errors and warnings of fairstem: what was given, what is needed, what to do next.

Every error of fairstem derives from `FairstemError` and from the built-in exception that a
Python user would expect (`ValueError`, `TypeError`, `OSError`, `ImportError`), so that existing
``except`` clauses keep working.
"""

from __future__ import annotations

__all__ = [
    "CalibrationError",
    "CalibrationWarning",
    "DataError",
    "DataTypeError",
    "DataWarning",
    "FairstemError",
    "FairstemWarning",
    "FileFormatError",
    "MissingDependencyError",
    "OutputError",
]


class FairstemError(Exception):
    """Base of all errors of fairstem.

    Parameters
    ----------
    given
        What the caller gave: name, shape, dtype, unit.
    needed
        What is needed instead. May be empty when `given` says it all.
    todo
        What to do next. May be empty.
    """

    def __init__(self, given: str, needed: str = "", todo: str = "") -> None:
        self.given, self.needed, self.todo = given, needed, todo
        parts = [given.rstrip(". ")]
        if needed:
            parts.append(f"needed: {needed.rstrip('. ')}")
        if todo:
            parts.append(f"what to do: {todo.rstrip('. ')}")
        super().__init__("; ".join(parts) + ".")

    def __reduce__(self) -> tuple[type[FairstemError], tuple[str, str, str]]:
        # errors cross process borders (Dask workers, pools); the parts must survive pickling
        return type(self), (self.given, self.needed, self.todo)


class DataError(FairstemError, ValueError):
    """The values, shape or content of the data do not fit the method."""


class DataTypeError(FairstemError, TypeError):
    """The type of an argument (or its dtype) does not fit."""


class CalibrationError(DataError):
    """A physical calibration is missing, absurd or contradicts itself."""


class FileFormatError(DataError):
    """A file can't be read: unknown format, truncated or damaged."""


class OutputError(FairstemError, OSError):
    """A result can't be written; nothing half-written is left behind."""

    def __str__(self) -> str:
        # OSError's own __str__ would turn three arguments into "[Errno given] needed: 'todo'"
        return Exception.__str__(self)


class MissingDependencyError(FairstemError, ImportError):
    """An optional package is needed that isn't installed; the message names the extra."""


class FairstemWarning(UserWarning):
    """Base of all warnings of fairstem."""


class CalibrationWarning(FairstemWarning):
    """A calibration was repaired, is missing, or looks wrong."""


class DataWarning(FairstemWarning):
    """The data can be used, but something about them should be known (NaN, saturation, averages)."""
