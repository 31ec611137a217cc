"""How sure it is that a site deviates, given how many sites do.

The tail probabilities of the sites of an image are a mixture: uniform where nothing deviates, crowded at zero where
something does. The mixture of a uniform and a beta(a, 1) density is fitted to them (S. Pounds and S. W. Morris,
Bioinformatics 19 (2003) 1236, doi:10.1093/bioinformatics/btg148); each site is then put back in proportion to the
probability that it deviates. Where every second site deviates a tail of 0.05 is real; where one in a thousand does,
it is noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Certainty", "fit_certainty"]

Floats = NDArray[np.float64]

# counts as much as this many sites that don't deviate: a few sites don't make a mixture
PSEUDO_SITES = 5.0
SMALLEST_TAIL = 1e-12


@dataclass(frozen=True)
class Certainty:
    """The share of a deviation that is put back, as a function of its tail probability.

    Parameters
    ----------
    uniform
        Share of the uniform part of the mixture.
    exponent
        a of the density a·p^(a-1) of the other part.
    strength
        0 to 1; the share is (probability that the site deviates)^(1 - strength): 1 puts back in full.
    """

    uniform: float
    exponent: float
    strength: float

    def _by_chance(self, tail: Floats) -> tuple[Floats, Floats]:
        """Probability that a site with this tail does not deviate, and its derivative by log tail."""
        p = np.clip(tail, SMALLEST_TAIL, 1.0)
        crowd = (1 - self.uniform) * self.exponent * p ** (self.exponent - 1)
        density = self.uniform + crowd
        # at p = 1 all that the mixture has is chance
        level = self.uniform + (1 - self.uniform) * self.exponent
        chance = level / density
        return chance, chance / density * crowd * (1 - self.exponent)

    def share(self, tail: Floats) -> Floats:
        """Share, 0 to 1, of a deviation with this tail probability that is put back."""
        chance, _ = self._by_chance(tail)
        out: Floats = np.maximum(1 - chance, 0.0) ** (1 - self.strength)
        return out

    def slope(self, tail: Floats) -> Floats:
        """Minus the derivative of the share by log tail: how fast it grows with the evidence."""
        chance, rise = self._by_chance(tail)
        if self.strength >= 1:
            return np.zeros_like(chance)
        out: Floats = (1 - self.strength) * np.maximum(1 - chance, 1e-6) ** -self.strength * rise
        return out


def fit_certainty(tail: Floats, strength: float) -> Certainty:
    """Fit the mixture to the tail probabilities (n,) of all tested sites; NaN are left out."""
    p = np.clip(tail[np.isfinite(tail)], SMALLEST_TAIL, 1.0)
    uniform, exponent = 0.9, 0.3
    log_p = np.log(p)
    for _ in range(300 if p.size else 0):
        crowd = (1 - uniform) * exponent * np.exp((exponent - 1) * log_p)
        chance = uniform / (uniform + crowd)
        before = uniform, exponent
        uniform = float((chance.sum() + PSEUDO_SITES) / (p.size + PSEUDO_SITES))
        surprise = -float(((1 - chance) * log_p).sum())
        exponent = float(np.clip((1 - chance).sum() / max(surprise, 1e-12), 0.01, 0.9))
        if abs(uniform - before[0]) + abs(exponent - before[1]) < 1e-6:
            break
    return Certainty(uniform, exponent, strength)
