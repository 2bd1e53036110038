"""The shape of the house, read from the syntax trees: wings apart, one door each, no cycles."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
# Heavy package -> the files that may import it. fairseq and flair have a file for inference and one for
# training, and one more for the model file, which both of those need: arrows through one door.
DOORS = {
    "fairseq": {
        "features/translation/fairseq.py",
        "features/translation/fairseq_training.py",
        "features/translation/opening.py",
        "features/translation/stepwise.py",
    },
    "fairseq_cli": {"features/translation/fairseq_training.py"},
    "flair": {
        "features/embeddings/charlm_flair.py",
        "features/english/flair.py",
        "features/english/flair_training.py",
        "features/english/native.py",
    },
    # One for models that read, one for those that write.
    "transformers": {"features/embeddings/bert.py", "features/translation/marian.py"},
    "huggingface_hub": {"features/pretrained.py"},
    "sentencepiece": {"features/translation/vocabulary.py"},
    "sacremoses": {"features/translation/vocabulary.py"},
    "sacrebleu": {"features/translation/training.py"},
    "h5py": {"store/writer.py"},
    "torchcrf": {"tagger/crf.py"},
    "seqeval": {"tagger/evaluation.py"},
    "click": {
        f"cli/{name}.py"
        for name in ("__init__", "first_steps", "models", "one_line", "options", "stage_one", "stage_two")
    },
}


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(SOURCE.rglob("*.py"))
    }


def imports(path: Path) -> set[str]:
    """Absolute names that a file imports: ``from a.b import c`` gives a.b and a.b.c."""
    tree = ast.parse(path.read_text("utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def needed(path: Path, known: dict[str, Path]) -> set[str]:
    """Our modules that a file needs at import: ``from package import module`` needs the module alone."""
    tree, found = ast.parse(path.read_text("utf-8")), set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= full & known.keys() or {str(node.module)} & known.keys()
    return found


@pytest.mark.parametrize("package", DOORS)
def test_each_heavy_package_has_one_door(package: str) -> None:
    users = {
        str(path.relative_to(SOURCE / "backattn"))
        for path in modules().values()
        if any(name == package or name.startswith(f"{package}.") for name in imports(path))
    }
    assert users <= DOORS[package]


@pytest.mark.parametrize(("wing", "other"), [("features", "tagger"), ("tagger", "features")])
def test_the_wings_never_import_each_other(wing: str, other: str) -> None:
    for name, path in modules().items():
        if name.startswith(f"backattn.{wing}"):
            reached = {i for i in imports(path) if i.startswith(f"backattn.{other}")}
            assert not reached, f"{name} imports {reached}"


def test_the_ground_floor_and_the_store_know_neither_wing() -> None:
    for name, path in modules().items():
        if name.startswith(("backattn.store", "backattn.corpus", "backattn.recipe", "backattn.fingerprint")):
            reached = {i for i in imports(path) if i.startswith(("backattn.features", "backattn.tagger"))}
            assert not reached, f"{name} imports {reached}"


def test_imports_have_no_cycle() -> None:
    known = modules()
    graph = {name: needed(path, known) - {name} for name, path in known.items()}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above, name])
        if name not in done:
            for target in graph[name]:
                visit(target, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


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


def test_stage_two_imports_without_the_packages_of_stage_one() -> None:
    stage_two = [name for name in modules() if name.startswith("backattn.tagger")]
    run_without(
        {"fairseq", "flair", "transformers", "sentencepiece", "sacremoses", "sacrebleu"},
        "\n".join(f"import {name}" for name in [*stage_two, "backattn.experiments"]),
    )


def test_check_and_the_command_line_import_without_torch() -> None:
    run_without(
        {"torch", "fairseq", "flair", "transformers", "matplotlib"},
        "import backattn.cli, backattn.features.check, backattn.features.plan, backattn.corpus.statistics",
    )
