"""Build fairseq models from checkpoints and from the archives of fairseq's hub.

No file is trusted: a checkpoint is read as plain data, and only fconv and transformer models are built.
"""

import tarfile
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, cast

import torch

from backattn.common.atomic_files import is_file
from backattn.common.errors import MissingError, ModelError, RecipeError
from backattn.common.regular_files import open_regular
from backattn.common.safe_text import error_text, listed, named_error_text, quoted
from backattn.models.import_logging import keep_root_logging
from backattn.models.safe_checkpoint import PLAIN_CLASSES, BoundedBuilding, load_safely
from backattn.models.safe_tar import safe_members
from backattn.recipe import FairseqRecipe

with keep_root_logging():
    from fairseq import checkpoint_utils, file_utils
    from fairseq.data import Dictionary
    from fairseq.models import ARCH_MODEL_REGISTRY, MODEL_REGISTRY
    from fairseq.models.fconv import FConvModel
    from fairseq.models.transformer import TransformerModel
    from fairseq.tasks.translation import TranslationConfig, TranslationTask

_SUPPORTED = "expected an fconv or transformer model of fairseq's translation task"


def load_models(
    files: Sequence[Path], recipe: FairseqRecipe, target: str = "en"
) -> tuple[list[Any], Dictionary, Dictionary]:
    """Build the models of checkpoints in one folder, and read that folder's two dictionaries.

    :raises ModelError: a file is damaged, holds code instead of data, or does not fit the others.
    """
    overrides: dict[str, Any] = {
        # Settings that name other files to load, or that compute BLEU in validation.
        "encoder_embed_path": None, "decoder_embed_path": None, "eval_bleu": False,
    }  # fmt: skip
    models: list[Any] = []
    task: Any = None
    paths = dictionary_files(files[0].parent, recipe, target)
    with torch.serialization.safe_globals(PLAIN_CLASSES), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # from fairseq's calls of torch; users can do nothing
        for file in files:
            state = load_safely(file)
            try:
                _refuse_foreign(file, state)
                # load_model_ensemble_and_task would prefer a file checkpoint-shard0.pt beside this one.
                with reading_once(state):
                    state = checkpoint_utils.load_checkpoint_to_cpu(str(file), overrides)
                # Not built from the checkpoint's settings, which cannot hold a path with `${` or `:`.
                task = task or TranslationTask(
                    TranslationConfig(source_lang=recipe.source, target_lang=target),
                    *map(_read_dictionary, paths),
                )
                with BoundedBuilding(file, state):
                    (model,), _, _ = checkpoint_utils.load_model_ensemble_and_task(
                        [str(file)], task=task, state=state
                    )
            except ModelError:
                raise
            except Exception as error:  # fairseq raises many kinds; the file is at fault
                reason = named_error_text(error)
                raise ModelError(
                    f"{file}: fairseq cannot build this model with the dictionaries beside it: {reason}"
                ) from error
            models.append(model)
    return models, task.source_dictionary, task.target_dictionary


@contextmanager
def reading_once(state: Mapping[str, Any]) -> Iterator[None]:
    """Make fairseq's reader of checkpoints return a state that was read and checked already.

    fairseq would read the file again. It may be another file by then, and it is opened as a pickle that can
    run code if the environment says so (``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD``).
    """
    checkpoint_utils.torch = SimpleNamespace(**{**vars(torch), "load": lambda *_, **__: dict(state)})
    try:
        yield
    finally:
        checkpoint_utils.torch = torch


def _read_dictionary(path: Path) -> Dictionary:
    try:
        with TextIOWrapper(cast(IO[bytes], open_regular(path)), encoding="utf-8") as file:
            return Dictionary.load(file)
    except UnicodeDecodeError as error:
        raise ModelError(
            f"{path}: not UTF-8 ({error_text(error)}); expected a piece and its count in each line: copy the "
            "translator's folder again"
        ) from None


def _refuse_foreign(file: Path, state: Mapping[str, Any]) -> None:
    """Refuse other models and tasks of fairseq: their code was not reviewed for hostile settings."""
    args, cfg = state.get("args"), state.get("cfg")
    model, task = _setting(cfg, "model"), _setting(cfg, "task")
    models = [_setting(args, "arch"), _setting(model, "_name"), _setting(model, "arch")]
    tasks = [_setting(args, "task"), _setting(task, "_name")]
    known = {**MODEL_REGISTRY, **ARCH_MODEL_REGISTRY}
    named = [str(name) for name in models if name is not None]
    unsupported = [name for name in named if known.get(name) not in (FConvModel, TransformerModel)]
    unsupported += [str(name) for name in tasks if name not in (None, "translation")]
    if unsupported or not named:
        raise ModelError(f"{file}: {_SUPPORTED}; found {listed(unsupported) or 'no name of a model'}")


def _setting(settings: Any, name: str) -> Any:
    return settings.get(name) if isinstance(settings, Mapping) else getattr(settings, name, None)


def hub_folder(hub: str) -> Path:
    """Download and unpack one of fairseq's public models in fairseq's own cache; return its folder.

    :raises RecipeError: fairseq has no such model into English.
    :raises MissingError: the archive is not in the cache and cannot be fetched.
    :raises ModelError: the archive is damaged, or has members that are refused.
    """
    archive = _hub_archives().get(hub)
    if archive is None:
        known = listed(sorted(_hub_archives()))
        raise RecipeError(f"translator.hub: fairseq has no {quoted(hub)}; expected one of {known}")
    cache = file_utils.PYTORCH_FAIRSEQ_CACHE
    # fairseq asks the network even for archives in its cache, and offline would not find them.
    for cached in sorted(cache.glob(f"{file_utils.url_to_filename(archive)}.*")):
        if cached.is_dir():
            return Path(cached)
    try:
        with safe_members():
            found: str | None = file_utils.load_archive_file(archive)
    except ModelError as error:
        raise ModelError(f"{hub}: {archive}: refused, {error}; delete it from {cache}") from None
    except RuntimeError:  # no answer after five attempts
        found = None
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
        raise ModelError(
            f"{hub}: {archive}: damaged ({error_text(error)}); delete it from {cache} to fetch it anew"
        ) from None
    if found is None:
        raise MissingError(
            f"{hub}: {archive} cannot be fetched and is not in {cache}; go online, or point "
            "translator.checkpoint at a folder of your own"
        )
    return Path(found)


def _hub_archives() -> dict[str, str]:
    """fairseq's public models into English: name -> address of the archive."""
    return {
        name: entry["path"]
        for name, entry in TransformerModel.hub_models().items()
        if "-en" in name and isinstance(entry, dict) and entry.get("bpe") == "fastbpe"
    }


def dictionary_files(folder: Path, recipe: FairseqRecipe, target: str = "en") -> list[Path]:
    """Paths of the two sides' dictionaries."""
    return [folder / f"dict.{language}.txt" for language in (recipe.source, target)]


def require_files(*paths: Path) -> None:
    """Check that files of a translator are there.

    :raises MissingError: one is not.
    """
    for path in paths:
        if not is_file(path):
            raise MissingError(
                f"{path}: not there; a translator's folder has a checkpoint, two dictionaries and its "
                "pieces: copy it whole, or make one with `backattn translator train LANG`"
            )
