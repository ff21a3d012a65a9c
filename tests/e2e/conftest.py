import os
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import uv

ROOT = Path(__file__).resolve().parents[2]
UV = uv.find_uv_bin()


def run(*command, stdin="", **options):
    """Run a command to its end and return its standard output; a failure shows everything it said."""
    done = subprocess.run(
        [str(part) for part in command], input=stdin, capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def clean_environ():
    """The environment of a person's shell: not the one of the `make test` that runs us."""
    ours = ("MAKE", "MFLAGS", "TOX", "VIRTUAL_ENV", "PYTEST", "PYTHON", "COVERAGE")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@dataclass(frozen=True)
class Distribution:
    folder: Path
    project: dict

    @property
    def name(self):
        return self.project["name"]

    @property
    def module(self):
        return self.name.replace("-", "_")


def distributions():
    files = [ROOT / "core/pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]
    return [Distribution(file.parent, tomllib.loads(file.read_text(encoding="utf-8"))["project"]) for file in files]


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    """The wheel of each distribution, built from its source archive as a release would be."""
    target = tmp_path_factory.mktemp("wheels")
    run(UV, "build", "--all-packages", "--out-dir", target, cwd=ROOT, env=clean_environ())
    built = {}
    for distribution in distributions():
        (built[distribution.name],) = target.glob(f"{distribution.module}-*.whl")
    return built
