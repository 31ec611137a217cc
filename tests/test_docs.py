"""What the documents show runs and is complete."""

import dataclasses
import doctest
import importlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from fairstem import atoms, denoise, diffraction, register, simulate

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
MARKED = re.compile(r"<!-- (run|not run: [^>]+) -->\n```(python|sh)\n(.*?)```", re.DOTALL)


def blocks():
    return MARKED.findall(README.read_text(encoding="utf-8"))


def test_every_block_of_the_readme_says_whether_it_is_run():
    fences = re.findall(r"^```(?:python|sh)$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) == len(blocks())
    assert {"python", "sh"} <= {language for mark, language, _ in blocks() if mark == "run"}


def test_readme_runs_from_top_to_bottom(tmp_path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "MPLBACKEND": "Agg"}
    for mark, language, text in blocks():
        if mark != "run":
            continue
        command = ["sh", "-euc", text] if language == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


def test_page_on_simulation_lists_every_phantom():
    page = (ROOT / "docs" / "simulate.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z0-9-]+)` \| (.*) \|$", page, re.MULTILINE)
    known = simulate.phantoms()
    assert listed == list(zip(known["name"], known["line"], strict=True))


@pytest.mark.parametrize(
    "page",
    [
        "simulate.md",
        "reading.md",
        "atoms.md",
        "registration.md",
        "registration-pt.md",
        "denoising.md",
        "diffraction.md",
    ],
)
def test_names_in_code_font_exist(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for package, name in re.findall(
        r"`(?:fairstem|fs)?\.?(simulate|metrics|atoms|signals|data|register|denoise|diffraction|plot)\.(\w+)",
        text,
    ):
        module = importlib.import_module(f"fairstem.{package}")
        assert hasattr(module, name), f"fairstem.{package}.{name}"


def test_examples_of_the_architecture_page_name_real_modules():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for package in re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE):
        importlib.import_module(f"fairstem.{package}")


def test_exit_codes_of_the_conventions_page_are_those_of_the_command_line():
    outcome = importlib.import_module("fairstem.cli.outcome")
    text = (ROOT / "docs" / "conventions.md").read_text(encoding="utf-8")
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    names = ("OK", "BUG", "USAGE", "INPUT", "DATA", "OUTPUT", "INTERRUPTED")
    assert listed == {getattr(outcome, name) for name in names}


def test_page_on_atoms_lists_every_prior_check_with_its_threshold():
    page = (ROOT / "docs" / "atoms.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z-]+)` \| .* \| (≤|≥) ([0-9.]+) \|$", page, re.MULTILINE)
    image = simulate.phantom("srtio3", peak=30, seed=1, shape=(160, 160))
    columns = atoms.find(image.data)
    checks = columns.attrs["priors"] + [check.to_dict() for check in atoms.lattice(columns).priors]
    made = {(c["name"], {"<=": "≤", ">=": "≥"}[c["rule"]], c["threshold"]) for c in checks}
    assert {(name, rule, float(value)) for name, rule, value in listed} == made


@pytest.mark.parametrize(
    ("name", "least"), [("registration.md", 20), ("denoising.md", 25), ("diffraction.md", 20)]
)
def test_examples_of_the_page_run(name, least):
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    text = "\n".join(re.findall(r"^```pycon\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    example = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
    assert len(example.examples) > least
    assert doctest.DocTestRunner(verbose=False).run(example).failed == 0


def test_page_on_registration_lists_every_prior_check():
    page = (ROOT / "docs" / "registration.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z]+-[a-z-]+)` \|", page, re.MULTILINE)
    p = simulate.phantom("p1", seed=1, shape=(160, 160), frames=4, pixel_size_nm=0.022)
    made = register.align(p.data, slow=False, lattice=True).priors
    assert listed == [check.name for check in made]


def test_page_on_denoising_lists_every_prior_check_with_its_threshold():
    page = (ROOT / "docs" / "denoising.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z-]+)` \| .* \| (≤|≥) ([0-9.]+) \|$", page, re.MULTILINE)
    image = simulate.phantom("p2", peak=20, seed=1, shape=(128, 128)).data
    # a constant image is the one that has no noise
    made = [*denoise.separate(image).priors, *denoise.separate(np.full((64, 64), 3.0)).priors]
    known = {(check.name, {"<=": "≤", ">=": "≥"}[check.rule], check.threshold) for check in made}
    assert {(name, rule, float(value)) for name, rule, value in listed} == known


def test_page_on_diffraction_lists_every_prior_check_with_its_threshold():
    page = (ROOT / "docs" / "diffraction.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z-]+)` \| .* \| (≤|≥) ([0-9.]+) \|$", page, re.MULTILINE)
    patterns = simulate.thin_scan("SrTiO3", (16, 16), detector=(25, 25), mrad_per_px=2.4).counts(2000, 1)
    made = diffraction.symmetry(patterns).priors
    known = {(check.name, {"<=": "≤", ">=": "≥"}[check.rule], check.threshold) for check in made}
    assert {(name, rule, float(value)) for name, rule, value in listed} == known
    named = {
        name
        for cell in re.findall(r"(?:`[a-z-]+`(?:, )?)+ \|$", page, re.MULTILINE)
        for name in re.findall(r"`([a-z-]+)`", cell)
    }
    checks = {check.name for check in diffraction.calibrate(patterns).priors}
    assert {"disc-present", "edge-sharp", "disc-whole", "descan-plane", "no-beam-stop"} <= checks & named


def test_page_on_denoising_lists_every_name_of_the_tables():
    page = (ROOT / "docs" / "denoising.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    image = simulate.phantom("p2", peak=20, seed=1, shape=(128, 128), shifted=1).data
    found = denoise.separate(image)
    assert len(found.deviations)
    assert {*found.deviations, *found.retention} <= named
    assert {field.name for field in dataclasses.fields(found)} <= named


def test_page_on_conventions_lists_every_name_of_the_table():
    page = (ROOT / "docs" / "conventions.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", page))
    image = simulate.phantom("p2", peak=30, seed=1, shape=(96, 96))
    columns = atoms.find(image.data, pixel_size_nm=0.012)
    elliptic = atoms.refine(image.data, columns, shape="elliptic")
    assert {*columns, *elliptic, *columns.attrs, *elliptic.attrs} <= named


def test_page_on_the_command_line_lists_every_verb_option_and_exit_code():
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    head, *parts = re.split(r"^## (\w+)$", page, flags=re.MULTILINE)
    verbs = typer.main.get_command(importlib.import_module("fairstem.cli.app").app).commands
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    assert list(sections) == list(verbs)
    shared = options_in(head)
    assert shared >= {"--json", "--quiet", "--debug"}
    for name, verb in verbs.items():
        known = {option for p in verb.params for option in p.opts if option.startswith("--")}
        section, _, _ = sections[name].partition("## Exit codes")
        assert options_in(section) | (shared & known) == known - {"--help"}
    outcome = importlib.import_module("fairstem.cli.outcome")
    names = ("OK", "BUG", "USAGE", "INPUT", "DATA", "OUTPUT", "INTERRUPTED")
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert codes == {getattr(outcome, name) for name in names} | {128 + signal.SIGTERM}


def options_in(text):
    """Options in the first cells of tables."""
    cells = re.findall(r"^\| (`-[^|]*) \|", text, re.MULTILINE)
    return {option for cell in cells for option in re.findall(r"`(--[\w-]+)`", cell)}


def test_links_between_pages_lead_somewhere():
    pages = [README, *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([\w./-]+\.(?:md|cff))\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
