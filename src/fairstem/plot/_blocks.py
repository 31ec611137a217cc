"""The parts of a report: numbers, checks, pictures, tables, and how each writes itself as HTML."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol

from fairstem.errors import DataError
from fairstem.priors import PriorCheck

__all__ = [
    "Block",
    "Checks",
    "Citation",
    "Number",
    "Numbers",
    "Picture",
    "Prose",
    "Provenance",
    "Table",
    "Warnings",
]


class Block(Protocol):
    """A part of a section that can write itself as HTML."""

    def to_html(self) -> str:
        """Return the block as HTML."""
        ...


@dataclass(frozen=True)
class Number:
    """A headline number with its error bar.

    Parameters
    ----------
    label
        What it is.
    value
        The number, already rounded as it shall be read.
    error
        Its error bar, same unit; empty where it has none (a count).
    unit
        Its unit.
    note
        One line below: what it is compared with, how it was measured.
    """

    label: str
    value: str
    error: str = ""
    unit: str = ""
    note: str = ""

    def to_html(self) -> str:
        """Return the number as HTML."""
        error = f' <span class="err">± {escape(self.error)}</span>' if self.error else ""
        unit = f" <small>{escape(self.unit)}</small>" if self.unit else ""
        note = f'<p class="note">{escape(self.note)}</p>' if self.note else ""
        return (
            f'<div class="number"><dt>{escape(self.label)}</dt>'
            f"<dd>{escape(self.value)}{error}{unit}{note}</dd></div>"
        )


@dataclass(frozen=True)
class Numbers:
    """Headline numbers side by side.

    Parameters
    ----------
    numbers
        The numbers, the most important first.
    """

    numbers: Sequence[Number]

    def to_html(self) -> str:
        """Return the numbers as HTML."""
        return (
            '<dl class="numbers">' + "".join(n.to_html() for n in self.numbers) + "</dl>"
            if self.numbers
            else ""
        )


@dataclass(frozen=True)
class Prose:
    """Plain text; blank lines separate paragraphs.

    Parameters
    ----------
    text
        The text.
    """

    text: str

    def to_html(self) -> str:
        """Return the text as HTML."""
        return "".join(f"<p>{escape(part.strip())}</p>" for part in self.text.split("\n\n") if part.strip())


@dataclass(frozen=True)
class Warnings:
    """What the reader must know before using the numbers.

    Parameters
    ----------
    messages
        One sentence each; nothing is drawn when there are none.
    """

    messages: Sequence[str]

    def to_html(self) -> str:
        """Return the warnings as HTML."""
        if not self.messages:
            return ""
        items = "".join(f"<li>{escape(m)}</li>" for m in self.messages)
        return f'<aside class="warnings"><strong>Please note</strong><ul>{items}</ul></aside>'


@dataclass(frozen=True)
class Checks:
    """Prior checks as a table: the assumption, what was measured, whether it holds, what to do.

    Parameters
    ----------
    checks
        `PriorCheck` objects, or the dictionaries they are stored as.
    """

    checks: Sequence[PriorCheck | Mapping[str, Any]]

    def to_html(self) -> str:
        """Return the checks as HTML."""
        if not self.checks:
            return ""
        head = "<tr><th>Assumption</th><th>Measured</th><th>Needs</th><th>Verdict</th></tr>"
        rows = "".join(_check_row(c) for c in self.checks)
        return (
            '<table class="checks"><caption>Assumptions of the method, measured on this data</caption>'
            f"<thead>{head}</thead><tbody>{rows}</tbody></table>"
        )


def _check_row(check: PriorCheck | Mapping[str, Any]) -> str:
    entry = check.to_dict() if isinstance(check, PriorCheck) else dict(check)
    statistic, holds = entry.get("statistic"), entry.get("holds")
    verdict, kind = {
        True: ("✓ holds", "good"),
        False: ("✗ does not hold", "bad"),
    }.get(holds, ("– not measured", "unknown"))  # type: ignore[arg-type]
    advice = str(entry.get("advice", "")) if holds is not True else ""
    number = "–" if statistic is None else f"{float(statistic):.3g}"
    sign = {"<=": "≤", ">=": "≥"}.get(str(entry.get("rule")), "")
    needs = "" if entry.get("threshold") is None else f"{sign} {float(entry['threshold']):.3g}"
    name = f"<b>{escape(str(entry.get('name', '')))}</b>"
    return (
        f"<tr><td>{name}<br>{escape(str(entry.get('assumption', '')))}</td>"
        f'<td class="num">{number}<br><small>{escape(str(entry.get("meaning", "")))}</small></td>'
        f'<td class="num">{escape(needs)}</td>'
        f'<td><span class="verdict {kind}">{verdict}</span>'
        + (f"<p class='note'>{escape(advice)}</p>" if advice else "")
        + "</td></tr>"
    )


@dataclass(frozen=True)
class Picture:
    """A figure with its caption.

    Parameters
    ----------
    png
        The picture's bytes.
    caption
        What it shows and what to see in it.
    alt
        The same for readers who can't see it.
    wide
        Take the whole width of the page.
    """

    png: bytes
    caption: str
    alt: str
    wide: bool = False

    def to_html(self) -> str:
        """Return the picture as HTML."""
        if not self.png.startswith(b"\x89PNG"):
            raise DataError("a picture that is no PNG", needed="PNG bytes", todo="use fairstem.plot.to_png")
        data = base64.b64encode(self.png).decode("ascii")
        width, height = (int.from_bytes(self.png[at : at + 4], "big") for at in (16, 20))
        kind = ' class="wide"' if self.wide else ""
        return (
            f'<figure{kind}><img src="data:image/png;base64,{data}" alt="{escape(self.alt)}" '
            f'width="{width}" height="{height}">'
            f"<figcaption>{escape(self.caption)}</figcaption></figure>"
        )


@dataclass(frozen=True)
class Table:
    """A table of text and numbers.

    Parameters
    ----------
    columns
        Headings, units included.
    rows
        Cells; numbers are right-aligned and shown with four significant digits.
    caption
        What the table holds.
    """

    columns: Sequence[str]
    rows: Iterable[Sequence[Any]]
    caption: str = ""

    def to_html(self) -> str:
        """Return the table as HTML."""
        rows = list(self.rows)
        # a heading stands over its numbers
        kinds = [_cell(value)[3:14] for value in rows[0]] if rows else [">"] * len(self.columns)
        head = "".join(
            f"<th{' class=num' if 'num' in kind else ''}>{escape(str(c))}</th>"
            for c, kind in zip(self.columns, kinds, strict=True)
        )
        body = "".join("<tr>" + "".join(_cell(v) for v in row) + "</tr>" for row in rows)
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        table = f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f'<div class="scroll">{table}</div>'


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"<td>{escape(str(value))}</td>"
    text = str(value) if isinstance(value, int) else ("–" if value != value else f"{value:.4g}")
    return f'<td class="num">{text}</td>'


@dataclass(frozen=True)
class Provenance:
    """How the result was made: every step with version, parameters and the hash of its input.

    Parameters
    ----------
    steps
        JSON-like dictionaries, as in ``metadata.fairstem.steps``.
    """

    steps: Sequence[Mapping[str, Any]]

    def to_html(self) -> str:
        """Return the steps as HTML, folded."""
        if not self.steps:
            return ""
        text = json.dumps(list(self.steps), indent=2, ensure_ascii=False, default=str)
        return f"<details><summary>How this was made</summary><pre>{escape(text)}</pre></details>"


@dataclass(frozen=True)
class Citation:
    """How to cite.

    Parameters
    ----------
    entries
        One reference each.
    """

    entries: Sequence[str]

    def to_html(self) -> str:
        """Return the references as HTML."""
        items = "".join(f"<li>{escape(e)}</li>" for e in self.entries)
        return f'<div class="cite"><h3>How to cite</h3><ul>{items}</ul></div>' if items else ""
