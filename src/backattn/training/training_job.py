"""A training that may be killed: the folder that it goes on from, and the result, which appears whole.

``<folder>.work/`` holds what is done so far and, from its beginning, whose it is: its claim. ``<folder>/``
takes its place at the end; its manifest, ``training.json``, says what it was made from and was written last.
A folder without a claim, or without a manifest, is somebody else's, and is refused.
"""

import json
import os
import platform
import re
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from backattn.common.atomic_files import (
    discard_folder,
    is_file,
    is_own_folder,
    is_partial,
    publish_folder,
    strange_folder,
    write_whole_text,
)
from backattn.common.digests import canonical_json, file_digest
from backattn.common.errors import RecipeError
from backattn.common.file_lock import writer_lock
from backattn.common.nested_dict import differences
from backattn.common.safe_text import listed, quoted, shortened
from backattn.models.training_manifest import MANIFEST, damage_as_model_error, read_manifest
from backattn.recipe import data_path

# Keys of a request: the digest of a data file (:func:`data_digest`), or of a file of the translator whose
# weights a training begins with; empty where there is none.
_DATA = re.compile(r"(^|\.)(data|parent)\.")
# Key of the manifest: the recipe that trained it.
_LANG = "lang"


@dataclass(frozen=True, kw_only=True)
class WorkFolder:
    """The work folder of one training.

    :param folder: of its result, as :func:`real_folder` gives it.
    :param request: everything that its numbers depend on, as JSON values, down to the bytes of its data.
    :param name: of the request in this folder; in the manifest it is a key.
    :param lang: the recipe; what another one has made is not replaced. Empty where that is not known.
    :param replace: a finished result of another request may be replaced.
    """

    folder: Path
    request: Mapping[str, Any]
    name: str = "request"
    lang: str = ""
    replace: bool = False

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder.with_name(self.folder.name + ".work")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others out; at a good end, the work folder goes, unless it is another training's.

        :raises BusyError: another process trains into the same folder.
        """
        with writer_lock(self.folder.with_name(self.folder.name + ".lock")):
            yield
            if not self.path.exists() or self._is_ours():
                discard_folder(self.path)

    def refuse_others(self) -> None:
        """Before anything is begun.

        :raises RecipeError: it belongs to another training or to none, or the finished folder to another
            recipe or to another program.
        """
        finished = read_manifest(self.folder) if is_file(self.folder / MANIFEST) else None
        if finished is not None and not {"files", "versions"} <= finished.keys():
            raise RecipeError(
                f"{self.folder}: its {MANIFEST} is none of a training by backattn, and it is not replaced; "
                "move it away, or name another folder in this recipe's checkpoint"
            )
        owner = (finished or {}).get(_LANG, self.lang)
        if owner != self.lang:
            raise RecipeError(
                f"{self.folder}: was trained by recipe {quoted(owner)}, and is not replaced by that of "
                f"{self.lang}; name another folder in this recipe's checkpoint, or move that one away"
            )
        if self._is_strange():
            raise RecipeError(
                f"{self.path}: is no work folder of a training, and this training would work there; move it "
                "away, or name another folder in this recipe's checkpoint"
            )
        if self._claim.exists() and not self._is_ours():
            raise RecipeError(
                f"{self.path}: holds the unfinished training of another recipe or of other data; "
                "delete the folder to train anew, or restore what the recipe named before"
            )

    def needed(self, request: Mapping[str, Any] | None = None) -> bool:
        """Whether the result is still to be made, by :func:`changes`.

        :param request: of the result, where the work folder's says more.
        :raises RecipeError: as :meth:`refuse_others`; or a whole result of another request lies there, and
            is not to be replaced.
        """
        wanted = self.request if request is None else request
        finished = request_of(self.folder, self.name)
        changed = changes(finished, wanted)
        if not changed:
            return False
        self.refuse_others()
        if finished is not None and not self.replace:
            told = [f"{key}: {_brief(old)}, now {_brief(new)}" for key, old, new in changed]
            raise RecipeError(
                f"{self.folder}: was trained with other settings or data ({listed(told)}), and what has "
                "learnt from it would be of no use; add --replace to train it anew, or name another folder "
                "in the recipe's checkpoint"
            )
        return True

    def claim(self) -> Path:
        """Begin it, or go on in one of the same request; gives its path.

        :raises RecipeError: as :meth:`refuse_others`; or a link lies in it, which would be followed, or a
            pipe.
        """
        self.refuse_others()
        self.path.mkdir(parents=True, exist_ok=True)
        for parent, folders, files in os.walk(self.path):
            for path in (Path(parent, name) for name in (*folders, *files)):
                mode = path.lstat().st_mode
                if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                    raise RecipeError(
                        f"{path}: is a link, a pipe or a device, which no training leaves; delete "
                        f"{self.path} to train anew"
                    )
        write_whole_text(self._claim, canonical_json(self.request))
        return self.path

    def fresh_result(self) -> Path:
        """An empty folder to fill for :meth:`publish`."""
        result = self.path / "result"
        shutil.rmtree(result, ignore_errors=True)
        result.mkdir()
        return result

    def publish(
        self,
        result: Path,
        told: Mapping[str, Any],
        packages: Sequence[str],
        *,
        folder: Path | None = None,
    ) -> None:
        """Write the manifest of a finished result and put it in its place.

        :param told: what the manifest tells: the request under its name, and the figures.
        :param packages: whose versions it names as well.
        :param folder: its place, where that is not the training's own.
        """
        versions = {
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        }
        files = {path.name: file_digest(path) for path in sorted(result.iterdir())}
        lang = {_LANG: self.lang} if self.lang else {}
        manifest = {**lang, **told, "versions": versions, "files": files}
        write_whole_text(result / MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")
        publish_folder(result, folder or self.folder)

    @property
    def _claim(self) -> Path:
        return self.path / f"{self.name}.json"

    def _is_strange(self) -> bool:
        """Whether something else is there than a folder with this kind's claim, or with nothing yet."""
        if not os.path.lexists(self.path):
            return False
        if not is_own_folder(self.path):
            return True
        names = [path.name for path in self.path.iterdir()]
        return self._claim.name not in names and not all(map(is_partial, names))

    def _is_ours(self) -> bool:
        return self._claim.exists() and self._claim.read_bytes() == canonical_json(self.request).encode()


def real_folder(folder: Path) -> Path:
    """Where the result of a training is to lie: behind a user's own link to another disk, which stays.

    The link is followed once, here: lock, work folder and result then lie side by side on that disk, where a
    folder can be renamed into its place.

    :raises RecipeError: the link leads nowhere, or a disk is mounted at the very place.
    """
    place = folder
    if folder.is_symlink():
        try:
            place = folder.resolve()
            there = place.parent.is_dir()
        except (OSError, RuntimeError):  # a link to itself
            there = False
        if not there:
            raise RecipeError(f"{folder}: is a link that leads nowhere; make what it leads to, or remove it")
    if os.path.ismount(place):
        raise RecipeError(
            f"{place}: is the root of a disk, and no finished training can be renamed into its place; name a "
            "folder below it in the recipe's checkpoint"
        )
    return place


def changes(finished: Any, wanted: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Where a request is not that of a finished result: key, old and new value.

    Data that are not there any more have not changed.
    """
    found = differences(finished, wanted)
    return [(key, old, new) for key, old, new in found if new != "" or not _DATA.search(key)]


def _brief(value: Any) -> str:
    """Of a digest, its two ends."""
    return shortened(quoted(value), 24)


def request_of(folder: Path, name: str = "request") -> Any:
    """What a finished folder was made from; None when there is none, or one of its files is gone or damaged.

    :raises ModelError: its manifest is damaged.
    """
    if not (folder / MANIFEST).exists():
        return None
    manifest = read_manifest(folder)
    return manifest.get(name) if _has_files(folder, manifest) else None


def is_whole(folder: Path) -> bool:
    """Whether the files of a finished folder are there, as they were written.

    :raises MissingError, ModelError: as :func:`read_manifest`.
    """
    return _has_files(folder, read_manifest(folder))


def _has_files(folder: Path, manifest: Mapping[str, Any]) -> bool:
    with damage_as_model_error(folder / MANIFEST):
        files = dict(manifest.get("files", {}))
        return all(is_file(folder / n) and file_digest(folder / n) == d for n, d in files.items())


def refuse_strange_folder(folder: Path, manifest: str, found: str, key: str) -> None:
    """A result takes the place of its folder: that must be a training's own, or not be there.

    :param manifest: file that only a training leaves there.
    :param found: what the folder is otherwise (``is no translator that was trained here``).
    :param key: of the recipe, which names the folder.
    :raises RecipeError: it holds other things.
    """
    if strange_folder(folder, manifest):
        raise RecipeError(
            f"{folder}: {found}, and is not replaced; move it away, or name another folder in {key}"
        )


def data_digest(name: str) -> str:
    """Digest of a data file; empty for a missing one, which the one place that reads it names."""
    path = data_path(name)
    return file_digest(path) if is_file(path) else ""
