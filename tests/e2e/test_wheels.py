"""Each wheel, in a clean environment that holds it, its own dependencies and nothing else."""

import json
import re
import sys
from pathlib import Path

import pytest

from .conftest import ROOT, UV, clean_environ, distributions, run

pytestmark = pytest.mark.e2e

DISTRIBUTIONS = distributions()
BY_NAME = {distribution.name: distribution for distribution in DISTRIBUTIONS}
DRIVERS = {"asyncpg", "psycopg", "sqlalchemy", "sqlite3", "redis", "pymongo", "opensearchpy"}


def siblings(name):
    """Return the names of our distributions that this one needs, itself included."""
    needed = {name}
    for requirement in BY_NAME[name].project["dependencies"]:
        other = re.match(r"[A-Za-z0-9._-]+", requirement)[0]
        if other in BY_NAME:
            needed |= siblings(other)
    return needed


@pytest.fixture(params=DISTRIBUTIONS, ids=lambda distribution: distribution.name)
def installed(request, wheels, tmp_path):
    """The distribution, the folder of an environment it was installed in by path, and what it looks like there."""
    distribution, environ, home = request.param, clean_environ(), tmp_path / "environment"
    run(UV, "venv", "--quiet", "--python", sys.executable, home, cwd=tmp_path, env=environ)
    # By path: before a release nothing of these names on a package index is ours.
    paths = [wheels[name] for name in sorted(siblings(distribution.name))]
    run(UV, "pip", "install", "--quiet", "--python", home / "bin/python", *paths, cwd=tmp_path, env=environ)
    probe = Path(__file__).with_name("probe.py")
    seen = run(home / "bin/python", "-I", probe, distribution.name, distribution.module, cwd=tmp_path, env=environ)
    return distribution, home, json.loads(seen)


def test_wheel(installed):
    distribution, home, seen = installed
    project = distribution.project
    assert Path(seen["location"]).is_relative_to(home)
    assert seen["version"] == project["version"]
    assert seen["typed"]
    assert seen["licenses"] == [(ROOT / "LICENSE").read_text(encoding="utf-8")]
    declared = [
        [group, *entry] for group, entries in project.get("entry-points", {}).items() for entry in entries.items()
    ]
    declared += [["console_scripts", *entry] for entry in project.get("scripts", {}).items()]
    assert seen["entry_points"] == sorted(declared)
    # What core costs everybody: neither a driver nor pydantic (150 ms) before somebody needs it.
    assert "turnkeep" in seen["loaded_by_core"]
    assert not DRIVERS & set(seen["loaded_by_core"])
    assert not {name for name in seen["loaded_by_core"] if name.startswith("pydantic")}
    ours = {name for name in seen["installed"] if name.startswith("turnkeep")}
    assert ours == siblings(distribution.name)
    for script in project.get("scripts", {}):
        assert "Usage" in run(home / "bin" / script, "--help", env=clean_environ())
        assert "Usage" in run(home / "bin/python", "-m", distribution.module, "--help", env=clean_environ())


def test_distributions_agree():
    """One licence, one floor of Python, the same range on core, and every distribution a workspace source."""
    sources = re.findall(r"^([\w-]+) = \{ workspace = true \}$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert sorted(sources) == sorted(BY_NAME)
    for distribution in DISTRIBUTIONS:
        assert (distribution.folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
        assert distribution.project["requires-python"] == BY_NAME["turnkeep"].project["requires-python"]
        assert distribution.name == "turnkeep" or "turnkeep>=1,<2" in distribution.project["dependencies"]
