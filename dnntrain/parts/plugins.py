"""Parts from outside: installed packages by entry point, and local files named on the command line."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from importlib import metadata
from pathlib import Path
from typing import Final

from dnntrain.errors import RegistrationError, UsageError

GROUP: Final = "dnntrain.parts"

_loaded: dict[str, str] = {}


def load_installed() -> None:
    """Import every module that installed packages name under the entry-point group `dnntrain.parts`.

    Raises:
        RegistrationError: one of them cannot be imported; its package is named.
    """
    for point in metadata.entry_points(group=GROUP):
        if point.value in sys.modules:
            continue
        try:
            point.load()
        except (ImportError, AttributeError, SyntaxError, RegistrationError) as error:
            owner = f"package {point.dist.name}" if point.dist else "an unknown package"
            raise RegistrationError(
                f"the parts '{point.name}' of {owner} cannot be loaded: {error}; mend or uninstall the package"
            ) from error


def load_file(path: Path) -> str:
    """Run a local Python file that registers parts; a file that was loaded before is left alone.

    Args:
        path: the file.

    Returns:
        SHA-256 of its content, to be recorded.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the plugin {path}: {error.strerror}") from error
    key, digest = str(path.resolve()), hashlib.sha256(content).hexdigest()
    if key in _loaded:
        return _loaded[key]
    name = f"dnntrain_plugin_{digest[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"the plugin {path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        del sys.modules[name]
        raise UsageError(f"the plugin {path} is not valid Python: {error}") from error
    except BaseException:
        del sys.modules[name]
        raise
    _loaded[key] = digest
    return digest


def loaded_files() -> dict[str, str]:
    """Return the local files that were loaded, by path, with the SHA-256 of each."""
    return dict(_loaded)
