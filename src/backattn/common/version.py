"""Versions of installed packages, for signatures, messages and artefacts."""

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Collect the versions of packages that are installed; the package ``python`` is the interpreter."""
    versions = {}
    for package in packages:
        try:
            versions[package] = platform.python_version() if package == "python" else version(package)
        except PackageNotFoundError:
            continue
    return versions


# Without a version when it runs from a source tree that was never installed.
__version__ = package_versions(["backattn"]).get("backattn", "0+unknown")
