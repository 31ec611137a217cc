"""Reports: one self-contained HTML page from sections of numbers, checks, figures and tables.

Pictures are inlined, there is no script and nothing is fetched, so that a page can be mailed,
archived and printed. Making the page is pure: `Report.to_html` returns text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from fairstem.plot._blocks import Block as Block
from fairstem.plot._blocks import Checks as Checks
from fairstem.plot._blocks import Citation as Citation
from fairstem.plot._blocks import Number as Number
from fairstem.plot._blocks import Numbers as Numbers
from fairstem.plot._blocks import Picture as Picture
from fairstem.plot._blocks import Prose as Prose
from fairstem.plot._blocks import Provenance as Provenance
from fairstem.plot._blocks import Table as Table
from fairstem.plot._blocks import Warnings as Warnings
from fairstem.plot._page import STYLE

__all__ = [
    "Block",
    "Checks",
    "Citation",
    "Number",
    "Numbers",
    "Picture",
    "Prose",
    "Provenance",
    "Report",
    "Section",
    "Table",
    "Warnings",
]


@dataclass(frozen=True)
class Section:
    """A titled part of the report.

    Parameters
    ----------
    title
        Its heading.
    blocks
        What it shows, in order. Pictures that follow one another stand side by side.
    summary
        One line behind the title in the table of contents.
    """

    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)
    summary: str = ""

    @property
    def anchor(self) -> str:
        """The section's name in links."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "section"

    def to_html(self, anchor: str | None = None) -> str:
        """Return the section as HTML."""
        parts: list[str] = []
        in_row = False
        for block in self.blocks:
            pictured = isinstance(block, Picture)
            if pictured != in_row:
                parts.append('<div class="figures">' if pictured else "</div>")
                in_row = pictured
            parts.append(block.to_html())
        if in_row:
            parts.append("</div>")
        heading = f"<h2>{escape(self.title)}</h2>" if self.title else ""
        return f'<section id="{anchor or self.anchor}">{heading}{"".join(parts)}</section>'


@dataclass(frozen=True)
class Report:
    """A page made of sections.

    Parameters
    ----------
    title
        Heading of the page.
    sections
        Its parts. From three sections on there is a table of contents.
    subtitle
        One line below the title.
    footer
        Last line: version, date.
    generator
        Name of the program, for other programs.

    Examples
    --------
    >>> page = Report("SrTiO3", [Section("Found", [Numbers([Number("columns", "512")])])])
    >>> "<h1>SrTiO3</h1>" in page.to_html()
    True
    """

    title: str
    sections: Sequence[Section]
    subtitle: str = ""
    footer: str = ""
    generator: str = "fairstem"

    def to_html(self) -> str:
        """Return the page: self-contained, without script.

        Returns
        -------
        str
            HTML 5. Cost: the pictures' bytes × 4/3.

        Raises
        ------
        DataError
            If a picture is no PNG.
        """
        anchors: list[str] = []
        for section in self.sections:
            name = section.anchor
            anchors.append(name if name not in anchors else f"{name}-{len(anchors)}")
        contents = ""
        if len(self.sections) > 2:
            items = "".join(
                f'<li><a href="#{a}">{escape(s.title)}</a>'
                + (f" <span>{escape(s.summary)}</span>" * bool(s.summary))
                + "</li>"
                for a, s in zip(anchors, self.sections, strict=True)
            )
            contents = f'<nav aria-label="Contents"><ul>{items}</ul></nav>'
        subtitle = f'<p class="subtitle">{escape(self.subtitle)}</p>' if self.subtitle else ""
        footer = f"<footer>{escape(self.footer)}</footer>" if self.footer else ""
        body = "".join(s.to_html(a) for a, s in zip(anchors, self.sections, strict=True))
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark">'
            f'<meta name="generator" content="{escape(self.generator)}">'
            f"<title>{escape(self.title)}</title><style>{STYLE}</style></head>\n"
            f"<body><header><h1>{escape(self.title)}</h1>{subtitle}</header>{contents}"
            f"<main>{body}</main>{footer}</body></html>\n"
        )
