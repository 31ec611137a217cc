"""Findings: what was noticed about data, what was given and what was assumed."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from fairstem.errors import CalibrationWarning, DataWarning

__all__ = ["Finding", "warn_findings"]


@dataclass(frozen=True)
class Finding:
    """One thing that was noticed about the data.

    Parameters
    ----------
    code
        Short identifier, such as ``"pixel-size-missing"``.
    severity
        ``"warning"`` when results may be wrong because of it, ``"info"`` otherwise.
    message
        What is the matter and what to do, in one sentence.
    given
        What the data say.
    assumed
        What is assumed in further processing.
    topic
        ``"calibration"``, ``"data"`` or ``"file"``.

    Examples
    --------
    >>> Finding("nan", "warning", "3 of 64 pixels are NaN", assumed="they are left out").to_dict()["code"]
    'nan'
    """

    code: str
    severity: Literal["info", "warning"]
    message: str
    given: str = ""
    assumed: str = ""
    topic: Literal["calibration", "data", "file"] = "data"

    def to_dict(self) -> dict[str, str]:
        """Return a JSON-ready dictionary."""
        return asdict(self)


def warn_findings(findings: Iterable[Finding], prefix: str = "", stacklevel: int = 3) -> None:
    """Give one warning per finding of severity ``"warning"``.

    Parameters
    ----------
    findings
        What was noticed.
    prefix
        What the findings are about, a file name for instance; put before each message.
    stacklevel
        Which caller the warning points at, as in `warnings.warn`.
    """
    for finding in findings:
        if finding.severity == "warning":
            category = CalibrationWarning if finding.topic == "calibration" else DataWarning
            text = f"{prefix}: {finding.message}" if prefix else finding.message
            warnings.warn(text, category, stacklevel=stacklevel)
