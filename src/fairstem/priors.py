"""Prior checks: the assumption a method stands on, and whether the data support it.

There is no free lunch: every method works because of prior information. A `PriorCheck` names the
assumption, the statistic that tests it, its threshold, the verdict, and what to do if it fails.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["PriorCheck"]


@dataclass(frozen=True)
class PriorCheck:
    """One assumption of a method, measured on the data at hand.

    Parameters
    ----------
    name
        Short identifier, such as ``"poisson-counts"``.
    assumption
        The assumption in one sentence.
    statistic
        The measured number that tests it. NaN when it could not be measured.
    threshold
        The value the statistic is compared with.
    rule
        ``"<="``: the prior holds when the statistic is at most the threshold; ``">="``: at least.
    meaning
        What the statistic is, with its unit.
    advice
        What to do when the prior does not hold.

    Examples
    --------
    >>> PriorCheck("whiteness", "residuals are noise", 1.3, 1.2, "<=", "reduced chi-square", "free the width").holds
    False
    """

    name: str
    assumption: str
    statistic: float
    threshold: float
    rule: Literal["<=", ">="]
    meaning: str
    advice: str

    @property
    def holds(self) -> bool | None:
        """True, False, or None when the statistic could not be measured."""
        if math.isnan(self.statistic):
            return None
        return self.statistic <= self.threshold if self.rule == "<=" else self.statistic >= self.threshold

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary, NaN as None."""
        out = asdict(self) | {"holds": self.holds}
        if math.isnan(self.statistic):
            out["statistic"] = None
        return out

    def __str__(self) -> str:
        verdict = {True: "holds", False: "does not hold", None: "not measured"}[self.holds]
        line = f"{self.name}: {verdict} ({self.meaning} {self.statistic:.3g}, needs {self.rule} {self.threshold:.3g})"
        return line if self.holds else f"{line} - {self.advice}"
