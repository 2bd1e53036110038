"""Run a training: with a work folder to resume from, and a result that appears whole.

``<folder>.work/`` holds the unfinished training and, from its beginning, ``request.json``: the request that
it belongs to. ``<folder>/`` appears at the end, with the manifest ``training.json`` written last. A work
folder without that request, or a result folder without a manifest, is not ours and is refused.
"""

import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from backattn.common.atomic_files import (
    discard_folder,
    entries_below,
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
from backattn.common.version import package_versions
from backattn.models.training_manifest import MANIFEST, damage_as_model_error, read_manifest
from backattn.recipe import data_path

_DataT = TypeVar("_DataT")
_TrainedT = TypeVar("_TrainedT")

# Keys of a request whose values are digests: of a data file (:func:`data_digest`), or of a file of the parent
# translator. A digest is empty where there is no such file.
_DATA = re.compile(r"(^|\.)(data|parent)\.")
# Key of the manifest: the recipe that trained the model.
_LANG = "lang"


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """One training: its folders, the request that identifies it, and its steps (:meth:`run`).

    :param folder: of the result, as :func:`result_folder` gives it.
    :param request: everything that the numbers depend on, as JSON values, down to digests of the data.
    :param work_settings: what only the work folder depends on; an unfinished training with other ones is not
        resumed.
    :param lang: name of the recipe; what another recipe has trained is not replaced. Empty where not known.
    :param packages: whose versions the manifest records, beside Python's.
    :param replace: a finished result of another request may be replaced.
    """

    folder: Path
    request: Mapping[str, Any]
    work_settings: Mapping[str, Any] = field(default_factory=dict)
    lang: str = ""
    packages: Sequence[str] = ()
    replace: bool = False

    @property
    def path(self) -> Path:
        """The work folder."""
        return self.folder.with_name(self.folder.name + ".work")

    def run(
        self,
        *,
        prepare: Callable[[], _DataT],
        train: Callable[[_DataT, Path], _TrainedT],
        write: Callable[[_DataT, _TrainedT, Path], Mapping[str, Any]],
        incomplete: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train and publish the result, unless a finished one of the same request is there.

        :param prepare: reads the data; when it fails, no unfinished training is left behind.
        :param train: trains on the data in the work folder, resuming what an earlier call has left there.
        :param write: writes the model's files into an empty folder; returns its figures for the manifest.
        :param incomplete: whether ``train`` has to run although the result is there.
        :returns: whether there was anything to do.
        :raises BusyError: another process trains into the same folder.
        :raises RecipeError: see :meth:`needed` and :meth:`claim`.
        """
        with self.locked():
            needed = self.needed()
            if not (needed or incomplete()):
                return False
            data = prepare()
            trained = train(data, self.claim())
            if needed:
                self.publish(lambda result: write(data, trained, result))
            return True

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out; on success, remove the work folder, unless it is another training's.

        :raises BusyError: another process trains into the same folder.
        """
        with writer_lock(self.folder.with_name(self.folder.name + ".lock")):
            yield
            if not self.path.exists() or self._is_ours():
                discard_folder(self.path)

    def needed(self) -> bool:
        """Whether the result has yet to be made (see :func:`changes`).

        :raises RecipeError: a folder is not ours to replace or to work in, or a finished result of another
            request lies there and ``replace`` is not set.
        """
        finished = request_of(self.folder)
        changed = changes(finished, self.request)
        if not changed:
            return False
        self._refuse_others()
        if finished is not None and not self.replace:
            shown = [f"{key}: {_brief(old)}, now {_brief(new)}" for key, old, new in changed]
            raise RecipeError(
                f"{self.folder}: was trained with other settings or data ({listed(shown)}), and models "
                "trained on its output would no longer fit; add --replace to train it anew, or name another "
                "folder in the recipe's checkpoint"
            )
        return True

    def claim(self) -> Path:
        """Create the work folder, or check the one of the same request; return its path.

        :raises RecipeError: the work folder or the result is another training's, or the work folder holds a
            link, which would be followed, a pipe or a device.
        """
        self._refuse_others()
        self.path.mkdir(parents=True, exist_ok=True)
        for parent, folders, files in os.walk(self.path):
            for path in (Path(parent, name) for name in (*folders, *files)):
                mode = path.lstat().st_mode
                if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                    raise RecipeError(
                        f"{path}: is a link, a pipe or a device, which no training leaves; delete "
                        f"{self.path} to train anew"
                    )
        write_whole_text(self._request_file, self._work_request)
        return self.path

    def publish(
        self,
        write: Callable[[Path], Mapping[str, Any]],
        *,
        folder: Path | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a result and its manifest, and move it to its place.

        :param write: fills an empty folder; returns the figures for the manifest.
        :param folder: where the result goes; by default the training's own.
        :param request: of this result; by default the training's own.
        """
        result = self.path / "result"
        shutil.rmtree(result, ignore_errors=True)
        result.mkdir()
        figures = write(result)
        manifest = {
            **({_LANG: self.lang} if self.lang else {}),
            "request": self.request if request is None else request,
            **figures,
            "versions": package_versions(["python", *self.packages]),
            "files": {path.name: file_digest(path) for path in sorted(result.iterdir())},
        }
        write_whole_text(result / MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")
        publish_folder(result, folder or self.folder)

    @property
    def _request_file(self) -> Path:
        return self.path / "request.json"

    @property
    def _work_request(self) -> str:
        return canonical_json({**self.request, **self.work_settings})

    def _refuse_others(self) -> None:
        """Refuse folders that are not this training's to replace or to work in.

        :raises RecipeError: the work folder belongs to another training or to none, or the finished folder to
            another recipe or to another program, or holds what no training has left.
        """
        finished = read_manifest(self.folder) if is_file(self.folder / MANIFEST) else None
        if finished is not None and not {"files", "versions"} <= finished.keys():
            raise RecipeError(
                f"{self.folder}: its {MANIFEST} was not written by backattn, and it is not replaced; "
                "move it away, or name another folder in this recipe's checkpoint"
            )
        owner = (finished or {}).get(_LANG, self.lang)
        if owner != self.lang:
            raise RecipeError(
                f"{self.folder}: was trained by recipe {quoted(owner)}, and is not replaced by that of "
                f"{self.lang}; name another folder in this recipe's checkpoint, or move that one away"
            )
        if finished is not None:
            written = finished["files"] if isinstance(finished["files"], Mapping) else ()
            own = {MANIFEST, *written}
            if others := sorted(name for name in entries_below(self.folder) if name not in own):
                raise RecipeError(
                    f"{self.folder}: holds {listed(others)}, which no training has left, and is not "
                    "replaced; move that away, or name another folder in this recipe's checkpoint"
                )
        if self._is_strange():
            raise RecipeError(
                f"{self.path}: is no work folder of a training, and this training would work there; move it "
                "away, or name another folder in this recipe's checkpoint"
            )
        if self._request_file.exists() and not self._is_ours():
            raise RecipeError(
                f"{self.path}: holds the unfinished training of another recipe or of other data; "
                "delete the folder to train anew, or restore what the recipe named before"
            )

    def _is_strange(self) -> bool:
        """Whether the work folder's place holds anything but a folder with a request, or an empty one."""
        if not os.path.lexists(self.path):
            return False
        if not is_own_folder(self.path):
            return True
        names = [path.name for path in self.path.iterdir()]
        return self._request_file.name not in names and not all(map(is_partial, names))

    def _is_ours(self) -> bool:
        file = self._request_file
        return file.exists() and file.read_bytes() == self._work_request.encode()


def result_folder(folder: Path, key: str, refusal: str) -> Path:
    """Resolve and check the folder of a training's result, before anything is read or computed.

    :param key: of the recipe, which names the folder.
    :param refusal: what a folder without a manifest is (``is no translator that was trained here``).
    :raises RecipeError: see :func:`real_folder` and :func:`refuse_strange_folder`.
    """
    place = real_folder(folder)
    refuse_strange_folder(place, MANIFEST, refusal, key)
    return place


def real_folder(folder: Path) -> Path:
    """Resolve the folder of a training's result, which may be a user's link to another disk; the link stays.

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


def refuse_strange_folder(folder: Path, manifest: str, refusal: str, key: str) -> None:
    """Refuse to replace a folder that no training has left.

    :param manifest: file that only a training leaves there.
    :param refusal: what the folder is otherwise (``is no translator that was trained here``).
    :param key: of the recipe, which names the folder.
    :raises RecipeError: the folder holds other things.
    """
    if strange_folder(folder, manifest):
        raise RecipeError(
            f"{folder}: {refusal}, and is not replaced; move it away, or name another folder in {key}"
        )


def changes(finished: Any, wanted: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """List where a request differs from that of a finished result: key, old and new value.

    A data file that is gone does not count as changed.
    """
    found = differences(finished, wanted)
    return [(key, old, new) for key, old, new in found if new != "" or not _DATA.search(key)]


def _brief(value: Any) -> str:
    """Quote a value, and shorten a digest to its two ends."""
    return shortened(quoted(value), 24)


def request_of(folder: Path) -> Any:
    """Read the request of a finished folder; None when there is none, or a file of it is gone or damaged.

    :raises ModelError: its manifest is damaged.
    """
    if not (folder / MANIFEST).exists():
        return None
    manifest = read_manifest(folder)
    return manifest.get("request", {}) if _has_files(folder, manifest) else None


def is_whole(folder: Path) -> bool:
    """Whether the files of a finished folder are there, as they were written.

    :raises MissingError, ModelError: as :func:`read_manifest`.
    """
    return _has_files(folder, read_manifest(folder))


def _has_files(folder: Path, manifest: Mapping[str, Any]) -> bool:
    with damage_as_model_error(folder / MANIFEST):
        files = dict(manifest.get("files", {}))
        return all(is_file(folder / n) and file_digest(folder / n) == d for n, d in files.items())


def data_digest(name: str) -> str:
    """Digest of a data file; empty for a missing one, which is reported where it is read."""
    path = data_path(name)
    return file_digest(path) if is_file(path) else ""
