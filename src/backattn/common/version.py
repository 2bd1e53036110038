"""Versions of installed packages, for signatures, messages and artefacts."""

import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Collect the versions of packages that are installed; the package ``python`` is the interpreter."""
    return {package: found for package in packages if (found := _version(package))}


@cache  # each takes a millisecond, and each store asks for ten
def _version(package: str) -> str:
    """Return the version of a package; empty where it is not installed."""
    try:
        return platform.python_version() if package == "python" else version(package)
    except PackageNotFoundError:
        return ""


# The package has no version when it runs from a source tree that was never installed.
__version__ = package_versions(["backattn"]).get("backattn", "0+unknown")
