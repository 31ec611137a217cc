"""Tables of results: stored as JSON, printed as text, rendered to RESULTS.md."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent / "RESULTS.md"
HEAD = """# Results

Generated from `results/*.json` by `make bench`; do not edit. Each table was measured in one run,
with one thread, every method on the same data. Times are CPU seconds; "peak" is the peak resident memory
of the process.
"""


@dataclass
class Table:
    """One table of a topic.

    Parameters
    ----------
    title
        What is compared.
    about
        The protocol, in a paragraph: data, seeds, what is timed.
    columns
        Heading of each key, in order; ``{"cpu_s": "CPU s"}``.
    rows
        One dictionary a row, with the keys of `columns`; a missing key is shown as a dash.
    targets
        Sentences that say what is aimed at and whether it is met.
    """

    title: str
    about: str
    columns: dict[str, str]
    rows: list[dict[str, Any]] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)


def versions(*packages: str) -> dict[str, str]:
    """Return the installed versions of `packages`, and the Python and processor they ran on."""
    found = {"Python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def verdict(name: str, value: float, limit: float, unit: str = "", at_least: bool = False) -> str:
    """Return a sentence that compares `value` with its target `limit`."""
    met = value >= limit if at_least else value <= limit
    sign = "≥" if at_least else "≤"
    return f"{name}: {_cell(value)}{unit}, target {sign} {_cell(limit)}{unit}: {'met' if met else 'NOT met'}"


def save(
    topic: str, title: str, tables: list[Table], made_with: dict[str, str], folder: Path = RESULTS
) -> Path:
    """Write the tables of `topic` to ``<folder>/<topic>.json``."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{topic}.json"
    record = {"topic": topic, "title": title, "made_with": made_with, "tables": [asdict(t) for t in tables]}
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def render(folder: Path = RESULTS, order: tuple[str, ...] = ()) -> str:
    """Return the page of all stored results, topics of `order` first."""
    records = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("*.json"))]
    rank = {topic: i for i, topic in enumerate(order)}
    records.sort(key=lambda r: (rank.get(r["topic"], len(rank)), r["topic"]))
    parts = [HEAD]
    for record in records:
        made = ", ".join(f"{name} {version}" for name, version in record["made_with"].items())
        parts.append(f"\n## {record['title']}\n\n`make bench TOPIC={record['topic']}` · {made}\n")
        parts.extend("\n" + markdown(Table(**table)) for table in record["tables"])
    return "".join(parts)


def markdown(table: Table) -> str:
    """Return `table` as Markdown: title, protocol, rows, targets."""
    keys = list(table.columns)
    lines = [f"### {table.title}", "", table.about, ""]
    lines.append("| " + " | ".join(table.columns[k] for k in keys) + " |")
    lines.append("|" + "---|" * len(keys))
    lines += ["| " + " | ".join(_cell(row.get(k)) for k in keys) + " |" for row in table.rows]
    if table.targets:
        lines += ["", *(f"- {t}" for t in table.targets)]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    """Return three significant digits of a number, all digits of a whole number, a dash for nothing."""
    if value is None:
        return "-"
    if isinstance(value, float):
        if abs(value) >= 1000:
            return f"{value:.0f}"
        text = f"{value:#.3g}"
        return "0" if float(text) == 0 else text.removesuffix(".")
    return str(value)
