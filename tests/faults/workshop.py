"""Where faults are tried: real tiny models, a corpus, a recipe, and the real command line in a child.

Importing torch, fairseq and flair takes seconds, so it is done once, here; each trial is a fork that does
its own work. This process computes nothing with torch, so that nothing of it can differ in a child.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

import backattn.experiments.runs
import backattn.features.check
import backattn.features.estimate
import backattn.features.gc
import backattn.features.pipeline
import backattn.features.plan
import backattn.training.english.train
import backattn.training.translator.train  # noqa: F401
from backattn import cli
from backattn.features import build
from backattn.models.flair_serialisation import dump_tagger
from tiny_english import PEOPLE, PLACES, make_sentences, random_tagger, write_columns
from tiny_translator import TEXT, make_translator

# So many source tokens a shard that the corpus makes four of them.
SHARD_TOKENS = 170
SPLITS = ("train", "dev", "test")
RECIPE = """
[corpus]
train = "toy.train"
dev = "toy.dev"
test = "toy.test"
source = "made here"
[translator]
kind = "fairseq"
checkpoint = "{root}/models/translator"
source = "de"
beam = 2
[english]
checkpoint = "{root}/models/tagger.safetensors"
[tagger]
hidden = 4
word_dimensions = 4
epochs = 4
batch = 8
"""
# The models that are trained: a recipe of its own, its models below the cache.
LEARN = """
[corpus]
train = "toy.train"
dev = "toy.dev"
test = "toy.test"
source = "made here"
[translator]
kind = "fairseq"
checkpoint = "learn/translator"
source = "de"
beam = 1
[translator.training]
parallel = [{ path = "pairs.train.tsv" }]
valid = { path = "pairs.valid.tsv" }
test = { path = "pairs.test.tsv" }
learning_rates = [0.5, 0.25]
pieces = 70
max_tokens = 400
average = 2
[english]
checkpoint = "learn/english/tagger.safetensors"
[english.training]
word_dimensions = 8
character_dimensions = 4
hidden = 8
epochs = 3
files = [{ path = "english.txt", use = "split", format = { scheme = "BIOES" } }]
"""
# Earlier, a child is still in our own hands.
FIRST_MOMENT = 0.003
LONGEST = 120.0
# A child's descriptor for notes about the fault, which are no part of what the command says.
NOTES = 3

STAGE_ONE = ("features", "toy", "--device", "cpu")
CHECK = ("check", "toy", "--deep", "--json")
TRAIN = (
    "train", "toy", "--inputs", "words+transfer", "--seeds", "1", "--threads", "1", "--device", "cpu",
)  # fmt: skip


class Lost(AssertionError):
    """A promise of the cache was broken; the message says which."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    :param status: exit status; negative: the signal that ended it.
    :param notes: which operation on the disk the fault met.
    """

    status: int
    out: str
    err: str
    notes: str
    seconds: float


@dataclass(frozen=True)
class Workshop:
    """A folder with models, a recipe and a corpus in three states.

    ``old`` at first; ``new`` after an edit, which takes eight sentences and brings twelve; ``less``: the
    eight are gone and nothing is new.
    """

    root: Path

    @classmethod
    def make(cls, root: Path) -> "Workshop":
        """Write all of it."""
        shop = cls(root)
        for name in ("pipelines", "models", "data/old", "data/new", "data/less"):
            (root / name).mkdir(parents=True)
        (root / "pipelines/toy.toml").write_text(RECIPE.format(root=root), "utf-8")
        sentences = _sentences(88)
        dev, test, train = sentences[:12], sentences[12:24], sentences[32:76]
        for name, own in (
            ("old", [*sentences[24:32], *train]),
            ("new", [*train, *sentences[76:]]),
            ("less", train),
        ):
            _write_corpus(root / "data" / name, own, dev, test)
            _write_lessons(root / "data" / name)
        (root / "pipelines/learn.toml").write_text(LEARN, "utf-8")
        made = shop.call(shop._make_models)
        if made.status:
            raise RuntimeError(made.err)
        return shop

    def _make_models(self) -> None:
        make_translator(self.root / "models/translator", "fconv")
        data = dump_tagger(random_tagger(self.root / "models"), "tagger.safetensors")
        (self.root / "models/tagger.safetensors").write_bytes(data)

    def command(
        self,
        cache: Path,
        *arguments: str,
        data: str = "old",
        before: Callable[[], object] = lambda: None,
        stop: tuple[float, int] | None = None,
    ) -> Outcome:
        """Run ``backattn ARGUMENTS`` in a child.

        :param cache: its ``BACKATTN_CACHE``.
        :param data: the corpus that it sees.
        :param before: called in the child first: what brings the fault about.
        :param stop: send the child this signal after so many seconds.
        """
        return self.call(lambda: self._command(cache, arguments, data, before), stop)

    def start(
        self,
        cache: Path,
        *arguments: str,
        data: str = "old",
        before: Callable[[], object] = lambda: None,
    ) -> "Child":
        """The same, without waiting for its end."""
        return Child.start(lambda: self._command(cache, arguments, data, before))

    def call(self, work: Callable[[], object], stop: tuple[float, int] | None = None) -> Outcome:
        """Run a function in a child that ends as a Python program does."""
        return Child.start(work).wait(stop)

    def _command(
        self, cache: Path, arguments: Sequence[str], data: str, before: Callable[[], object]
    ) -> None:
        os.chdir(self.root)
        os.environ |= {"BACKATTN_CACHE": str(cache), "BACKATTN_DATA": str(self.root / "data" / data)}
        build.SHARD_TOKENS = SHARD_TOKENS
        before()
        cli.main(list(arguments))


@dataclass
class Child:
    """A running child; its output goes to files."""

    pid: int
    folder: Path
    began: float

    @classmethod
    def start(cls, work: Callable[[], object]) -> "Child":
        """Fork, and wait until the work begins."""
        folder = Path(tempfile.mkdtemp(prefix="child-"))
        ready, begun = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        # An interrupt must not find a child that still stands in its parent's code.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        pid = os.fork()
        if pid == 0:
            _child(work, folder, begun)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        os.close(begun)
        os.read(ready, 1)
        os.close(ready)
        return cls(pid, folder, time.monotonic())

    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def wait(self, stop: tuple[float, int] | None = None) -> Outcome:
        """Its outcome, when it has ended; see :meth:`Workshop.command`."""
        if stop is not None and self._await(self.began + stop[0]):
            os.kill(self.pid, stop[1])
        late = self._await(time.monotonic() + LONGEST)
        if late:
            os.kill(self.pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        seconds = time.monotonic() - self.began
        out, err, notes = ((self.folder / n).read_text("utf-8", "replace") for n in ("1", "2", "3"))
        shutil.rmtree(self.folder)
        if late:
            raise Lost(f"no end after {LONGEST:.0f} s: {err}")
        return Outcome(status, out, err, notes, seconds)

    def _await(self, end: float) -> bool:
        """Wait for its end, but not beyond this moment; whether it is still alive."""
        while self.alive():
            left = end - time.monotonic()
            if left <= 0:
                return True
            time.sleep(min(left, 0.002))
        return False


def _child(work: Callable[[], object], folder: Path, begun: int) -> NoReturn:
    """The first frame of a child; it ends as a Python program does, but for its parent's objects."""
    status = [1]
    try:
        _work(work, folder, begun, status)
    except (
        KeyboardInterrupt
    ) as late:  # it came when the work had ended: while that was written down, or after
        if isinstance(late.__context__, SystemExit):
            status[0] = _code(late.__context__)
    finally:  # nothing may lead back into the parent's code
        os._exit(status[0])


def _work(work: Callable[[], object], folder: Path, begun: int, status: list[int]) -> None:
    """Do it, with its output in files; its status goes into the list."""
    try:
        begun = fcntl.fcntl(begun, fcntl.F_DUPFD, NOTES + 1)
        for descriptor in (1, 2, NOTES):
            file = os.open(folder / str(descriptor), os.O_WRONLY | os.O_CREAT, 0o666)
            os.dup2(file, descriptor, inheritable=descriptor != NOTES)
        # A test runner has put other objects in their place.
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.write(begun, b".")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        work()
        status[0] = 0
    except SystemExit as end:
        status[0] = _code(end)
    except BaseException:
        traceback.print_exc()
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()


def _code(end: SystemExit) -> int:
    return end.code if isinstance(end.code, int) else bool(end.code)


class Table:
    """Prints the result as Markdown, a row at a time; a trial that is lost raises before."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        print("| fault | tried | survived | lost |\n|---|---:|---:|---|", flush=True)

    def row(self, fault: str, tried: int, lost: str = "nothing finished") -> None:
        """So many trials, all of them survived; how long they took goes to standard error."""
        print(f"| {fault} | {tried} | {tried} | {lost} |", flush=True)
        print(f"{time.monotonic() - self._begin:.0f} s", file=sys.stderr, flush=True)
        self._begin = time.monotonic()


@contextlib.contextmanager
def workshop() -> Iterator[Workshop]:
    """A workshop in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        # Ordinary users have to get in: some faults are only theirs.
        os.chmod(name, 0o755)  # noqa: S103 - see above
        yield Workshop.make(Path(name) / "shop")


def copy(source: Path, target: Path) -> Path:
    """A copy of a cache folder, in place of whatever is at ``target``."""
    shutil.rmtree(target, ignore_errors=True)
    if source.exists():
        shutil.copytree(source, target, symlinks=True)
    return target


def _sentences(count: int) -> list[list[tuple[str, str]]]:
    """Different sentences of 1 to 14 German words and a name, with tags."""
    generator = np.random.default_rng(7)
    words = [word for line in TEXT for word in line.split()]
    made: list[list[tuple[str, str]]] = []
    while len(made) < count:
        tokens = [(str(word), "O") for word in generator.choice(words, generator.integers(0, 14))]
        names, kind = ((PEOPLE, "PER"), (PLACES, "LOC"))[int(generator.integers(2))]
        name = str(generator.choice(names)).split()
        marks = ["B-", *["I-"] * (len(name) - 1)]
        tokens += [(part, mark + kind) for part, mark in zip(name, marks, strict=True)]
        if tokens not in made:
            made.append(tokens)
    return made


def _write_lessons(folder: Path) -> None:
    """English sentences for a tagger, and pairs for a translator: German words that are read backwards."""
    write_columns(folder / "english.txt", make_sentences(60))
    generator = np.random.default_rng(3)
    words = sorted({word for line in TEXT for word in line.split() if word.isalpha()})[:12]
    for name, count in (("train", 60), ("valid", 16), ("test", 6)):
        sentences = [" ".join(generator.choice(words, generator.integers(2, 6))) for _ in range(count)]
        lines = "".join(f"{text}\t{text[::-1]}\n" for text in sentences)
        (folder / f"pairs.{name}.tsv").write_text(lines, "utf-8")


def _write_corpus(folder: Path, *splits: list[list[tuple[str, str]]]) -> None:
    for name, sentences in zip(SPLITS, splits, strict=True):
        blocks = ["".join(f"{token} {tag}\n" for token, tag in sentence) for sentence in sentences]
        (folder / f"toy.{name}").write_text("\n".join(blocks), "utf-8")
