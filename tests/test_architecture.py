"""The layers of the library, read from its syntax trees: who imports whom, and who imports what is heavy."""

import ast
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import pytest

from backattn.common.extras import PACKAGES

SOURCE = Path(__file__).parents[1] / "src"

# Package -> those that it may import from, from the bottom up. cli and demo may import all below them.
_MODELS = {"recipe", "common"}
_INFERENCE = {"models", "corpus", "recipe", "common"}
_FEATURES = {"cluster", "translation", "english", "embeddings", "store"} | _INFERENCE
_EXPERIMENTS = {"features", "tagger", "training"} | _FEATURES
_REPORT = {"experiments"} | _EXPERIMENTS
LAYERS: dict[str, set[str]] = {
    "common": set(),
    "recipe": {"common"},
    "store": {"common"},
    "corpus": {"recipe", "common"},
    "models": _MODELS,
    "cluster": {"recipe", "common"},
    # Siblings: none of these reads a line of another, nor of training.
    "translation": _INFERENCE,
    "english": _INFERENCE,
    "embeddings": _INFERENCE,
    "conversion": {"corpus", "recipe", "common"},  # files of other tools -> files of a corpus
    # The stages: they share corpus, recipe and what is below.
    "tagger": {"corpus", "recipe", "common"},
    "features": _FEATURES,
    "training": {"translation", "english", "embeddings"} | _INFERENCE,
    "experiments": _EXPERIMENTS,
    # What `init` writes: the form of files, and the way to English.
    "new_recipe": {"corpus", "models", "recipe", "common"},
    "tagging": _REPORT,
    "report": _REPORT,
    "evaluation": {"tagging", "report"} | _REPORT,
    "demo": {"tagging", "report"} | _REPORT,
    "packaging": {"report"} | _REPORT,  # a run and its models -> a folder with a model card
    "api": {"tagging", "report"} | _REPORT,
    "integrations": {"api"} | _REPORT,  # components of other tools
    "cli": {"demo", "new_recipe", "evaluation", "packaging", "tagging", "report", "conversion"} | _REPORT,
    "": {"api", "features", "common"},  # backattn/__init__.py: imports the first two when they are used
    "__main__": {"cli"},
}
LARGEST_SHARE = 0.2  # of the lines of all packages
# Heavy package -> the files that may import it.
DOORS = {
    "fairseq": {
        "training/translator/fairseq_trainer.py",
        "translation/fairseq.py",
        "translation/fairseq_checkpoint.py",
        "translation/fairseq_decoder.py",
    },
    "fairseq_cli": set(),
    "flair": {
        "embeddings/charlm_hub.py",
        "english/flair.py",
        "integrations/flair.py",
        "models/flair_serialisation.py",
        "training/charlm/flair_trainer.py",
        "training/english/flair_trainer.py",
    },
    "gensim": {"training/vectors/gensim_trainer.py"},
    # One for models that read, one for those that write.
    "transformers": {"embeddings/bert.py", "translation/marian.py"},
    "huggingface_hub": {"models/hub.py"},
    "sentencepiece": {"translation/sentencepieces.py", "training/translator/vocabulary.py"},
    "sacremoses": {"corpus/raw_text.py", "translation/tokenisation.py"},
    "sacrebleu": {"training/translator/train.py"},
    "h5py": {"store/writer.py"},
    "torchcrf": {"tagger/crf.py"},
    "seqeval": {"corpus/scoring.py"},
    "ray": {"cluster.py"},
    "jinja2": {"report/markup.py"},
    # Each library that files of other tools are read with has one door.
    "spacy": {"conversion/docbin.py", "corpus/input_raw.py", "integrations/spacy.py"},
    "pyarrow": {"conversion/tables.py"},
    "datasets": set(),  # a saved folder is Arrow, and may hold a program
    "click": {
        f"cli/{name}.py"
        for name in (
            "__init__",
            "basics",
            "conversion",
            "error_handling",
            "init",
            "models",
            "options",
            "stage_one",
            "stage_two",
        )
    },
}


@cache
def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(SOURCE.rglob("*.py"))
    }


@cache
def imports(path: Path) -> list[set[str]]:
    """What a file imports, in its functions and for its types as well, name by name.

    Each is a set of absolute names: ``from a.b import c`` gives a.b and a.b.c.
    """
    found: list[set[str]] = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [{alias.name} for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found += [{str(node.module), f"{node.module}.{alias.name}"} for alias in node.names]
    return found


def targets(path: Path, known: Mapping[str, Path]) -> set[str]:
    """Our modules that a file imports: ``from package import module`` means the module alone."""
    found: set[str] = set()
    for names in imports(path):
        ours = names & known.keys()
        found |= {max(ours, key=len)} if ours else {n for n in names if n.split(".")[0] == "backattn"}
    return found


def package_of(name: str) -> str:
    """``store`` of ``backattn.store.seal``; a module beside the packages is its own."""
    return [*name.split("."), ""][1]


def packages() -> dict[str, dict[str, set[str]]]:
    """Package -> packages that it imports from -> which module imports which."""
    known = modules()
    graph: dict[str, dict[str, set[str]]] = {package_of(name): defaultdict(set) for name in known}
    for name, path in known.items():
        for target in targets(path, known):
            if package_of(target) != package_of(name):
                graph[package_of(name)][package_of(target)].add(f"{name} imports {target}")
    return graph


def refuse_cycles(graph: Mapping[str, Iterable[str]]) -> None:
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above, name])
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def folders() -> list[str]:
    return sorted(name for name, path in modules().items() if path.name == "__init__.py")


def test_every_package_has_its_layer() -> None:
    assert {package_of(name) for name in modules()} == LAYERS.keys()


@pytest.mark.parametrize("package", LAYERS)
def test_a_package_imports_only_from_those_below(package: str) -> None:
    for target, users in packages().get(package, {}).items():
        assert target in LAYERS[package], sorted(users)


def test_the_layers_have_no_cycle() -> None:
    refuse_cycles(LAYERS)


@pytest.mark.parametrize("folder", folders())
def test_neighbours_have_no_cycle(folder: str) -> None:
    """Neither the packages nor the modules of a folder import each other in a circle."""

    def child(name: str) -> str:
        return name.removeprefix(folder).removeprefix(".").partition(".")[0] or "__init__"

    known = modules()
    inside = [name for name in known if f"{name}.".startswith(f"{folder}.")]
    graph: dict[str, set[str]] = {child(name): set() for name in inside}
    for name in inside:
        reached = {target for target in targets(known[name], known) if f"{target}.".startswith(f"{folder}.")}
        graph[child(name)] |= {child(target) for target in reached} - {child(name)}
    refuse_cycles(graph)


def test_no_package_is_a_fifth_of_the_code() -> None:
    lines: Counter[str] = Counter()
    for name, path in modules().items():
        lines[package_of(name)] += len(path.read_text("utf-8").splitlines())
    package, most = lines.most_common(1)[0]
    assert most < LARGEST_SHARE * lines.total(), f"{package}: {most} of {lines.total()} lines"


@pytest.mark.parametrize("package", DOORS)
def test_each_heavy_package_has_few_importers(package: str) -> None:
    users = {
        str(path.relative_to(SOURCE / "backattn"))
        for path in modules().values()
        if any(name == package or name.startswith(f"{package}.") for names in imports(path) for name in names)
    }
    assert users == DOORS[package]


def run_without(blocked: set[str], code: str) -> str:
    """Run code in a fresh interpreter where importing a blocked package fails."""
    guard = (
        "import sys\n"
        "class Guard:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {blocked!r}: raise ImportError('blocked: ' + name)\n"
        "sys.meta_path.insert(0, Guard())\n"
    )
    done = subprocess.run([sys.executable, "-c", guard + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_stage_two_and_the_api_import_without_the_packages_of_stage_one() -> None:
    stage_two = [name for name in modules() if package_of(name) in {"tagger", "store", "corpus", "recipe"}]
    api = "import backattn; backattn.load, backattn.Tagger, backattn.Entity, backattn.features.__call__"
    named = [f"import {name}" for name in [*stage_two, "backattn.experiments.runs", "backattn.tagging"]]
    run_without(
        {name for names in PACKAGES.values() for name in names} | {"click", "spacy"}, "\n".join([api, *named])
    )


def test_reports_and_the_bottom_import_without_torch() -> None:
    light = [name for name in modules() if package_of(name) in {"report", "recipe", "store", "corpus"}]
    run_without({"torch", "matplotlib"}, "\n".join(f"import {name}" for name in light))


def test_check_and_the_command_line_import_without_torch() -> None:
    run_without(
        {"torch", "fairseq", "flair", "transformers", "matplotlib"},
        "import backattn.cli, backattn.features.check, backattn.features.plan, backattn.corpus.statistics",
    )


def test_the_package_imports_without_what_its_api_needs() -> None:
    """``import backattn`` is light; and its names are there before they are used."""
    run_without(
        {"torch", "click", "numpy", "msgspec", "flair", "spacy"},
        "import backattn; assert set(backattn.__all__) <= set(dir(backattn)); backattn.__version__",
    )
