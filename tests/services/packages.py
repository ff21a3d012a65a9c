"""Programs that this machine lacks: Debian's packages where servers are promised, wheels and jars anywhere.

Wheels go to folders of their own, never into .venv: no test may come to lean on what a server brings along.
"""

import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from .commands import ServiceError, run

# Not in .cache: what builds the documentation empties that.
CACHE = Path(__file__).resolve().parents[2] / ".services" / "programs"
# Debian keeps servers where only root's PATH looks.
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
APT = ["apt-get", "-qq", "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=120"]
APT_INSTALL = ["install", "-y", "--no-install-recommends"]
APT_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive"}
ATTEMPTS = 3
PAUSE_SECONDS = 5.0
# Debian asks this program before it starts what it has just installed; 101 means no.
POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# From turnkeep's tests/services, for the time of one apt-get.\nexit 101\n"


def program(name: str) -> Path | None:
    """Return the path of a program of this machine, or None."""
    found = shutil.which(name, path=PATH)
    return Path(found) if found else None


def wheel(requirement: str, *, python: str = "") -> Path:
    """Return the folder that holds this requirement and what it needs, installed there by the first call.

    It is the wheel for the Python that runs this, or for the version given, if what is in it needs none.

    Raises:
        ServiceError: there is none for this machine, or no way to it.
    """
    version = python or "{}.{}".format(*sys.version_info[:2])
    uv = Path(sys.executable).with_name("uv")
    install = [uv, "pip", "install", "--quiet", "--only-binary", ":all:"]
    install += ["--python", sys.executable, "--python-version", version, requirement]
    return _once(f"{requirement}-py{version}", lambda folder: [*install, "--target", folder])


def jars(pom: Path) -> Path:
    """Return the folder that holds what this pom.xml depends on, copied there by the first call.

    Raises:
        ServiceError: Maven cannot get them.
    """
    mark = hashlib.sha256(pom.read_bytes()).hexdigest()[:12]
    copy = [program("mvn") or "mvn", "--quiet", "--batch-mode", "--file", pom, "dependency:copy-dependencies"]
    return _once(f"{pom.stem}-{mark}", lambda folder: [*copy, f"-DoutputDirectory={folder}"])


def apt_line(packages: Sequence[str]) -> str:
    """Return what a person types to install these Debian packages."""
    return f"sudo apt-get {' '.join(APT_INSTALL)} {' '.join(packages)}"


def apt_install(packages: Sequence[str], log: Path) -> None:
    """Install these Debian packages, and let none of the servers in them start.

    Raises:
        ServiceError: this is no Debian, we are not root, or apt-get failed.
    """
    if os.geteuid() != 0 or not program("apt-get"):
        raise ServiceError(f"only root on Debian can install what is missing; try: {apt_line(packages)}")
    print(f"services: installing {' '.join(packages)}", flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    ours = not POLICY.exists() or POLICY.read_text(encoding="utf-8") == POLICY_TEXT
    if ours:
        POLICY.write_text(POLICY_TEXT, encoding="utf-8")
        POLICY.chmod(0o755)
    try:
        for attempt in range(1, ATTEMPTS + 1):
            # A failure here may be that of a list which is not needed; whether it matters shows in the next step.
            with suppress(ServiceError):
                run([*APT, "update"], log, env=APT_ENVIRONMENT)
            try:
                run([*APT, *APT_INSTALL, *packages], log, env=APT_ENVIRONMENT)
                break
            except ServiceError:
                if attempt == ATTEMPTS:
                    raise
                time.sleep(PAUSE_SECONDS)
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)


def _once(name: str, install: Callable[[Path], Sequence[str | Path]]) -> Path:
    """Return the folder of this name, which the command fills if there is none yet: all of it or nothing."""
    folder = CACHE / name
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            fresh = Path(scratch) / "fresh"
            run(install(fresh), Path(scratch) / "log")
            try:
                fresh.rename(folder)
            except OSError:  # another process was faster
                if not folder.exists():
                    raise
    return folder
