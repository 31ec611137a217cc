"""The house holds together: documents, metadata, pins and set-up say the same as the code."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import fairstem

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])
# constraints may not pin these: they are installed by extras that continuous integration does not use
EXTRAS_ONLY = {"fastapi", "uvicorn", "python-multipart", "fairstem"}


def pins():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.lower().replace("_", "-").split("==") for line in lines if line and line[0] != "#")


def requirements():
    project = PROJECT["project"]
    lists = [
        project["dependencies"],
        *PROJECT["dependency-groups"].values(),
        *project["optional-dependencies"].values(),
    ]
    # a group may include another: those entries are tables
    return [Requirement(text) for texts in lists for text in texts if isinstance(text, str)]


def test_architecture_page_shows_the_layers_that_are_enforced():
    contract = next(c for c in PROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    picture = re.search(r"```text\n(.*?)```", page, re.DOTALL).group(1)
    # two columns: what a layer is for, then its packages; the lines between hold only the connector
    drawn = [line[24:].strip() for line in picture.splitlines() if line.strip(" │")]
    assert drawn == contract["layers"]


def test_every_package_of_the_source_is_a_layer():
    contract = next(c for c in PROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    layers = {name for line in contract["layers"] for name in line.split(" | ")}
    source = {
        p.stem
        for p in (ROOT / "src" / "fairstem").iterdir()
        if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    assert source - {"__init__"} == layers


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_pin_satisfies_the_floor(requirement):
    name = requirement.name.lower().replace("_", "-")
    if name in EXTRAS_ONLY:
        assert name not in pins()
    else:
        assert requirement.specifier.contains(pins()[name], prereleases=True)


def test_pins_are_exact_versions_in_order():
    assert list(pins()) == sorted(pins())
    for version in pins().values():
        Version(version)


def test_metadata_files_name_the_version_and_licence_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    codemeta = json.loads((ROOT / "codemeta.json").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert citation["version"] == codemeta["version"] == fairstem.__version__
    assert citation["license"] == PROJECT["project"]["license"]
    assert codemeta["license"].endswith(citation["license"])
    assert citation["repository-code"] == codemeta["codeRepository"] == PROJECT["project"]["urls"]["Source"]


def test_changelog_keeps_its_form():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert sections[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[Unreleased\]|\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", s) for s in sections)
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), target


def test_set_up_says_what_is_needed_when_python_is_too_old(tmp_path):
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo 'Python 3.9.1' && exit 0\nexit 1\n")
    old.chmod(0o755)
    for tool in ("sh", "echo"):
        (tmp_path / tool).symlink_to(f"/bin/{tool}")
    done = subprocess.run(
        ["/bin/sh", str(ROOT / ".ci" / "venv.sh"), str(tmp_path / "env")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "needs Python 3.11 or newer; found: Python 3.9.1" in done.stderr
    assert not (tmp_path / "env").exists()


def test_working_environment_is_kept(tmp_path):
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 0\n")
    python.chmod(0o755)
    done = subprocess.run(["/bin/sh", str(ROOT / ".ci" / "venv.sh"), str(tmp_path / "env")], check=False)
    assert done.returncode == 0
    assert python.read_text() == "#!/bin/sh\nexit 0\n"


@pytest.mark.parametrize("target", ["help", "demo", "test", "lint", "bench", "peers", "docs", "clean"])
def test_make_knows_its_targets(target):
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
