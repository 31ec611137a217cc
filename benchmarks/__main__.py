"""``python -m benchmarks [topic ...]``: run topics, print their tables, store them, generate RESULTS.md."""

from __future__ import annotations

import argparse
import importlib
import time

from . import TOPICS, tables


def main() -> None:
    """Run the topics named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "topic", nargs="*", help=f"one or more of: {', '.join(TOPICS)}; all when none is named"
    )
    parser.add_argument(
        "--render", action="store_true", help="only generate RESULTS.md from the stored results"
    )
    chosen = parser.parse_args()
    if unknown := set(chosen.topic) - set(TOPICS):
        parser.error(f"no topic {', '.join(sorted(unknown))}; there are: {', '.join(TOPICS)}")
    for topic in () if chosen.render else chosen.topic or TOPICS:
        module = importlib.import_module(f"benchmarks.{topic}")
        print(f"== {topic}: {module.TITLE}", flush=True)
        began = time.perf_counter()
        made = module.run()
        for table in made:
            print("\n" + tables.markdown(table), flush=True)
        tables.save(topic, module.TITLE, made, tables.versions(*module.PACKAGES))
        print(f"   {time.perf_counter() - began:.0f} s\n", flush=True)
    tables.PAGE.write_text(tables.render(order=TOPICS), encoding="utf-8")
    readme = tables.insert_summary(tables.README.read_text(encoding="utf-8"), tables.summary(order=TOPICS))
    tables.README.write_text(readme, encoding="utf-8")
    print(f"{tables.PAGE}")


if __name__ == "__main__":
    main()
