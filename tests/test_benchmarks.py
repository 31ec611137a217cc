"""The benchmarks' own harness, and that the page of results is what the stored results generate."""

import importlib
import sys

import numpy as np
import pytest
from benchmarks import TOPICS, harness, tables
from benchmarks.workers import count_columns as count


def test_results_page_equals_what_the_stored_results_generate():
    assert tables.PAGE.read_text(encoding="utf-8") == tables.render(order=TOPICS)


def test_numbers_of_the_readme_are_those_of_the_stored_results():
    readme = tables.README.read_text(encoding="utf-8")
    assert all(mark in readme for mark in tables.MARKS)
    assert readme == tables.insert_summary(readme, tables.summary(order=TOPICS))


@pytest.mark.parametrize("topic", TOPICS)
def test_topic_has_title_packages_and_run(topic):
    module = importlib.import_module(f"benchmarks.{topic}")
    assert module.TITLE
    assert "fairstem" in module.PACKAGES
    assert callable(module.run)


def test_stored_tables_survive_the_round_trip(tmp_path):
    table = tables.Table("t", "about", {"a": "A", "b": "B"}, [{"a": 1.23456}, {"a": 5, "b": "x"}], ["met"])
    tables.save("topic", "Title", [table], {"Python": "3"}, tmp_path)
    page = tables.render(tmp_path)
    assert tables.markdown(table) in page
    assert "| 1.23 | - |" in page
    assert "| 5 | x |" in page


def test_verdict_says_whether_the_target_is_met():
    assert tables.verdict("time", 0.1, 0.2, " s").endswith("target ≤ 0.200 s: met")
    assert tables.verdict("time", 0.3, 0.2, " s").endswith("NOT met")
    assert tables.verdict("speed", 30.0, 20.0, at_least=True).endswith(": met")


def test_peak_memory_counts_what_a_process_held():
    small = harness.measure(["-c", "pass"], sys.executable)
    large = harness.measure(["-c", "x = b'1' * 80_000_000"], sys.executable)
    assert 70 < large.peak_mb - small.peak_mb < 100
    assert small.cpu_s > 0


def test_failed_process_says_what_it_wrote():
    with pytest.raises(harness.WorkerError, match="ZeroDivisionError"):
        harness.measure(["-c", "1 / 0"])


def square(n=9, a=10.0):
    """Columns of a square lattice, its vectors, and the test for the interior."""
    where = np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="ij"), -1).reshape(-1, 2) * a + 5
    return where, np.array([[0.0, a], [a, 0.0]]), count.border((n * a, n * a), 6.0)


def test_complete_lattice_has_no_holes_no_duplicates_no_strays():
    where, vectors, inside = square()
    assert len(count.holes(where, vectors, inside)) == 0
    assert count.duplicates(where) == count.strays(where, vectors, inside) == 0


def test_hole_duplicate_and_stray_are_counted():
    where, vectors, inside = square()
    without = np.delete(where, 40, axis=0)
    assert count.holes(without, vectors, inside) == pytest.approx(where[40:41])
    assert count.duplicates(np.vstack([where, where[40] + 2])) == 1
    assert count.strays(np.vstack([where, where[40] + 5]), vectors, inside) == 1
