"""What the reports of all verbs have in common: noise, assumptions that fail, what to cite, the frame of a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from fairstem.plot.numbers import significant
from fairstem.plot.report import Citation, Prose, Report, Section

__all__ = ["citations", "failed", "failed_sentence", "noise_sentence", "page_of_image"]

PROJECT = "fairstem, version {version}. See CITATION.cff of the project for the current reference."


class OfOneImage(Protocol):
    """What is known of one image: the part of it that heads and foots its page."""

    @property
    def title(self) -> str:
        """For captions."""

    @property
    def image(self) -> NDArray[Any]:
        """``(y, x)`` as recorded."""

    @property
    def pixel_size_nm(self) -> tuple[float, float] | None:
        """``(y, x)`` nm; None without calibration."""

    @property
    def seconds(self) -> float:
        """Time that it took, s."""


def citations(*entries: str) -> list[str]:
    """Return what to cite, the project first.

    Parameters
    ----------
    *entries
        One reference each.

    Returns
    -------
    list of str
        One reference each.
    """
    from fairstem import __version__

    return [PROJECT.format(version=__version__), *entries]


def failed_sentence(priors: Iterable[Mapping[str, Any]]) -> str:
    """Name the assumptions that the data do not support.

    Parameters
    ----------
    priors
        Assumptions as measured, JSON-like.

    Returns
    -------
    str
        Empty when there are none.
    """
    names = [f"“{check['assumption']}”" for check in priors if check.get("holds") is False]
    if not names:
        return ""
    return f"Not all that the method assumes holds here: {', '.join(names)}. The table of checks says what follows."


def failed(priors: Iterable[Mapping[str, Any]]) -> list[Prose]:
    """Return the paragraph that names the assumptions that the data do not support.

    Parameters
    ----------
    priors
        Assumptions as measured, JSON-like.

    Returns
    -------
    list of Prose
        One, or none when all hold.
    """
    text = failed_sentence(priors)
    return [Prose(text)] if text else []


def noise_sentence(noise: Mapping[str, Any], constant: str = "") -> str:
    """Say which noise was taken, and who said so.

    Parameters
    ----------
    noise
        How raw values relate to electrons: gain, offset, readout, source, poisson.
    constant
        What follows from noise that is the same everywhere, put behind its size.

    Returns
    -------
    str
        One sentence.
    """
    if noise.get("source") == "counts":
        return "Noise: the values are taken as counted electrons (Poisson)."
    who = "as given" if noise.get("source") == "given" else "estimated from the image itself"
    readout = significant(noise["readout"], 3)
    if not noise.get("poisson", True):
        return f"Noise, {who}: constant, {readout} grey levels{constant}."
    gain, offset = (significant(noise[k], 4) for k in ("gain", "offset"))
    return (
        f"Noise, {who}: {gain} grey level{'' if gain == '1' else 's'} per electron, zero at {offset}, "
        f"read-out noise {readout} grey levels."
    )


def page_of_image(seen: OfOneImage, what: str, shown: Section, cite: Sequence[str], source: str) -> Report:
    """Return the whole page on one image.

    Parameters
    ----------
    seen
        What is known of the image.
    what
        Start of the heading; the title of the image, or else its file, follows.
    shown
        Its only part.
    cite
        References besides the project.
    source
        Name of the file.

    Returns
    -------
    Report
        Ready for `to_html`.
    """
    from fairstem import __version__

    size = "" if seen.pixel_size_nm is None else f", {seen.pixel_size_nm[1]:.5g} nm per pixel"
    shape = " × ".join(map(str, seen.image.shape))
    return Report(
        f"{what} {seen.title or source}",
        [shown, Section("", [Citation(citations(*cite))])],
        subtitle=f"{source}: {shape} px{size}",
        footer=f"fairstem {__version__}, {seen.seconds:.1f} s",
    )
