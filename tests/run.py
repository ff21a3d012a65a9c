"""Everything `make test` checks: the tox environments, then the tests that span distributions.

pytest comes last, so that its closing line closes the output; a failure before it shows in the exit status.
"""

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from services.commands import ServiceError
from services.registry import Registry

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
VERSIONS = ("3.11", "3.12", "3.13")
CPUS = os.cpu_count() or 2


def interpreter(version: str) -> Path | None:
    """Return the path of a working Python of this version, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    # pyenv's python3.12 on PATH works only where 3.12 was selected, hence its own folders.
    candidates = [shutil.which(f"python{version}"), *pyenv.glob(f"{version}.*/bin/python{version}")]
    for candidate in filter(None, candidates):
        probe = [candidate, "-c", "import sys, venv; print(sys.executable)"]
        found = subprocess.run(probe, capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return Path(found.stdout.strip())
    return None


def environments() -> tuple[list[str], list[str]]:
    """Return the names of the tox environments that can run here, and the folders of the interpreters they need."""
    tox_ini = configparser.ConfigParser(interpolation=None)
    tox_ini.read(ROOT / "tox.ini", encoding="utf-8")
    names = [name.strip() for name in tox_ini["tox"]["env_list"].split(",")]
    folders = []
    own = "{}.{}".format(*sys.version_info[:2])
    for version in VERSIONS:
        if version == own:
            continue
        name = f"py{version.replace('.', '')}-all"
        if path := interpreter(version):
            names.append(name)
            folders.append(str(path.parent))
        else:
            print(f"Python {version}: no interpreter found on this machine, {name} is not run", flush=True)
    return names, folders


def tox() -> bool:
    """Run the environments side by side; return whether all went well. tox shows the output of those that failed."""
    names, folders = environments()
    path = os.pathsep.join([*folders, os.environ["PATH"]])
    # More than there are processors: tests with a server spend half of their time waiting for it.
    command = [BIN / "tox", "run-parallel", f"--parallel={CPUS + 2}", "--parallel-no-spinner", "-e", ",".join(names)]
    done = subprocess.run(command, cwd=ROOT, check=False, stdin=subprocess.DEVNULL, env={**os.environ, "PATH": path})
    for name in names:
        for log in sorted((ROOT / ".tox" / name / "log").glob("*-commands*.log")):
            for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
                if summary := re.fullmatch(r"=+ (\d+ .+ in [\d.]+s.*?) =+", line):
                    print(f"  {name}: {summary[1]}")
    sys.stdout.flush()
    return done.returncode == 0


def main() -> int:
    """Return the exit status of `make test`."""
    services = Registry()
    required = os.environ.get("TURNKEEP_REQUIRE_SERVICES", "") not in {"", "0"}
    try:
        started = services.up(required=True) if required else []
    except ServiceError as error:
        print(f"make test: {error}", file=sys.stderr)
        return 1
    try:
        os.environ.update(services.addresses())
        good = tox()
        pytest = [BIN / "pytest", "tests", f"--numprocesses={CPUS}", "--dist=loadfile"]
        last = subprocess.run(pytest, cwd=ROOT, check=False, stdin=subprocess.DEVNULL).returncode
    finally:
        services.down(started)
    if not good:
        print("make test: a tox environment failed; the reason stands above pytest's output", file=sys.stderr)
    return last or int(not good)


if __name__ == "__main__":
    sys.exit(main())
