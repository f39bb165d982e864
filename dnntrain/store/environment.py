"""Where a run was made: command, source revision, packages and machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Final

PACKAGES: Final = ("dnntrain", "torch", "torchvision", "numpy", "scikit-learn", "pyarrow", "pydantic", "pyyaml")
LARGEST_PATCH: Final = 1_000_000


def describe_environment() -> dict[str, Any]:
    """Return the command, the git revision (with the patch where it is dirty), versions and the machine."""
    return {
        "command": sys.argv,
        "folder": str(Path.cwd()),
        "git": git_revision(Path.cwd()),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
    }


def git_revision(folder: Path) -> dict[str, Any] | None:
    """Return the commit that `folder` is at, and the uncommitted changes to it; None outside a repository.

    A patch past a million characters is cut there, and says so.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    dirty = bool((_git(folder, "status", "--porcelain") or "").strip())
    # Only then: a file whose time alone has changed would be named in it.
    patch = (_git(folder, "diff", "HEAD") or "") if dirty else ""
    return {
        "commit": commit.strip(),
        "dirty": dirty,
        "patch": patch[:LARGEST_PATCH] or None,
        "patch_cut": len(patch) > LARGEST_PATCH,
    }


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints, or None where there is no git, no repository, or no answer in time."""
    # Without its locks git only looks: killed together with this process, it would leave the repository locked.
    command = ["git", "--no-optional-locks", "-c", "diff.autoRefreshIndex=false", *arguments]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    """Return the processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
