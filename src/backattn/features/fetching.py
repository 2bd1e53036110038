"""Fetch the hub models of a recipe, before its stores are planned.

What is on this machine already is not fetched again, so that a store grows with the model that it was begun
with, whatever the hub has by now. The package of a hub is imported only when something is fetched.
"""

from backattn.common.errors import NotFetchedError
from backattn.common.extras import Extra, require_extras
from backattn.models.hub import COMMIT, newest_commit, record_place
from backattn.models.model_digests import (
    CHARLM_DIRECTIONS,
    Part,
    bert_folder,
    english_path,
    missing_models,
    needs_transfer,
    translator_folder,
)
from backattn.models.transformers_folder import read_encoder
from backattn.models.vouchers import NOBODY, Vouchers
from backattn.recipe import FairseqRecipe, ModelTranslator, Recipe, TransformersRecipe


def hub_models(recipe: Recipe, part: Part = "all") -> dict[str, str]:
    """The models of a part that come from hubs: key of the recipe, without ``.hub`` -> name."""
    found: dict[str, str] = {}
    if needs_transfer(recipe, part):
        if isinstance(recipe.translator, ModelTranslator):
            found["translator"] = recipe.translator.hub
        found["english"] = recipe.english_tagger.hub
    if part != "transfer":
        for name in recipe.tagger.embeddings:
            found[f"embeddings.{name}"] = getattr(getattr(recipe.embeddings, name), "hub", "")
    return {key: name for key, name in found.items() if name}


def fetch_models(
    recipe: Recipe, part: Part = "all", *, vouchers: Vouchers = NOBODY, newest: bool = False
) -> None:
    """Fetch the models of hubs that are not on this machine.

    Nothing is fetched while another model is missing: a plan names that one.

    :param newest: ask the hubs for newer versions of those that are there, too.
    :raises MissingError: a package that reads one is not installed, or one cannot be fetched.
    :raises ModelError: nobody vouches for a pickle.
    """
    missing = missing_models(recipe, part)
    if not all(isinstance(error, NotFetchedError) for error in missing.values()):
        return
    absent = [key for key in hub_models(recipe, part) if newest or key.removeprefix("embeddings.") in missing]
    require_extras("the models of hubs", (model_extra(recipe, key) for key in absent))
    for key in absent:
        fetch_model(recipe, key, vouchers)


def fetch_model(recipe: Recipe, key: str, vouchers: Vouchers) -> None:
    """Fetch one model, named by a key of :func:`hub_models`.

    :raises MissingError: it cannot be fetched.
    :raises ModelError: it is a pickle, and nobody vouches for it.
    """
    require_hub_vouchers(recipe, key, vouchers)
    if key == "translator":
        _fetch_translator(recipe)
    elif key == "english":
        _fetch_english(recipe)
    elif key == "embeddings.charlm":
        _fetch_charlm(recipe)
    else:
        from backattn.embeddings.bert import fetch_bert

        assert recipe.embeddings.bert is not None
        read_encoder(fetch_bert(recipe.embeddings.bert))  # a model of another form is refused here


def model_extra(recipe: Recipe, key: str) -> Extra | None:
    """The extra of the installation whose packages fetch and read a model; None for one that needs none.

    :param key: of the recipe: ``translator``, ``english``, or an embedding as ``embeddings.bert``.
    """
    charlm = recipe.embeddings.charlm
    if key == "translator":
        if isinstance(recipe.translator, FairseqRecipe):
            return "fairseq"
        return "transformers" if isinstance(recipe.translator, TransformersRecipe) else None
    if key == "english" or (key == "embeddings.charlm" and charlm and charlm.hub):
        return "flair"
    return "transformers" if key == "embeddings.bert" else None


def require_hub_vouchers(recipe: Recipe, key: str, vouchers: Vouchers) -> None:
    """Refuse a pickle of a hub before it is fetched.

    :param key: as for :func:`model_extra`.
    :raises ModelError: nobody vouches for it.
    """
    charlm, english = recipe.embeddings.charlm, recipe.english
    if key == "english" and english and english.hub:
        vouchers.require_for_hub(english.hub, filter(None, [english.sha256]), "english.sha256")
    elif key == "embeddings.charlm" and charlm and charlm.hub:
        vouchers.require_for_hub(charlm.hub, charlm.sha256, "embeddings.charlm.sha256")


def _fetch_translator(recipe: Recipe) -> None:
    translator = recipe.translator
    assert isinstance(translator, ModelTranslator)
    if isinstance(translator, TransformersRecipe):
        from backattn.translation.marian import fetch_marian

        fetch_marian(translator)
    else:
        from backattn.translation.fairseq_checkpoint import hub_folder

        record_place("fairseq", translator.hub, hub_folder(translator.hub))


def _fetch_english(recipe: Recipe) -> None:
    from backattn.english.flair import fetch_tagger

    name = recipe.english_tagger.hub
    record_place("flair tagger", name, fetch_tagger(name))


def _fetch_charlm(recipe: Recipe) -> None:
    charlm = recipe.embeddings.charlm
    assert charlm is not None
    from backattn.embeddings.charlm_hub import fetch_file

    for direction in CHARLM_DIRECTIONS:
        name = f"{charlm.hub}-{direction}"
        record_place("flair language model", name, fetch_file(name))


def hub_news(recipe: Recipe, part: Part = "all") -> list[str]:
    """Ask the hubs whether they have newer versions of a recipe's models than this machine; a line each.

    :raises MissingError: a hub does not answer.
    """
    return [_news(recipe, key, name) for key, name in hub_models(recipe, part).items()]


def _news(recipe: Recipe, key: str, name: str) -> str:
    revision = ""
    try:
        if key == "translator" and isinstance(recipe.translator, TransformersRecipe):
            revision, commit = recipe.translator.revision, translator_folder(recipe).name
        elif key == "embeddings.bert" and recipe.embeddings.bert is not None:
            revision, commit = recipe.embeddings.bert.revision, bert_folder(recipe).name
        elif key == "english":  # flair keeps taggers of the Hugging Face hub in a cache of the same layout
            commit = english_path(recipe).parent.name
        else:
            commit = ""
    except NotFetchedError:
        return f"{key}: {name}: not fetched yet"
    if not COMMIT.fullmatch(commit):
        return f"{key}: {name}: its hub has no commits to compare"
    if revision == commit:
        return f"{key}: {name}: is the commit that {key}.revision names"
    newest = newest_commit(name.partition("@")[0], revision or name.partition("@")[2])
    if newest == commit:
        return f"{key}: {name}: is the hub's newest ({commit})"
    return (
        f"{key}: {name}: the hub's newest is another one, {newest}; this machine has {commit}, and stores go "
        f"on with that; `backattn features {recipe.name} --online` fetches the newest and begins new stores"
    )
