"""`features --sentences`: a trial on the first sentences, before the long run."""

import shlex
from pathlib import Path

import pytest

from backattn.corpus import SPLITS
from tiny_english import random_tagger, save_pickle
from users_folder import make_home, run


@pytest.mark.parametrize("count", [1, 2])
def test_a_trial_computes_the_first_sentences_and_check_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """The whole run afterwards goes on from it: the store is that of a run without a trial."""
    corpus = {
        split: "".join(f"{name}-{split} B-PER\nsingt O\n\n" for name in ("anna", "ben", "carl"))
        for split in SPLITS
    }
    make_home(tmp_path, monkeypatch, corpus=corpus)
    save_pickle(random_tagger(tmp_path), tmp_path / "cache/toy/english/tagger.pt")
    options = ["toy", "--set", 'translator={ kind = "copy", source = "de" }', "--trust"]
    status, out, err = run("features", *options, "--sentences", str(count))
    assert (status, "translation/" in out, f": {3 * count} sentences, {3 * count} computed" in out) == (
        0, True, True,
    ), err  # fmt: skip
    assert "the rest: translation: time unknown until 100 sentences are done" in err
    assert err.endswith(f"next: backattn features {shlex.join(options[:3])} (the whole corpus)\n")
    status, out, _ = run("check", *options[:3])
    assert status == 1
    for split in SPLITS:
        assert f"  {split}: last made for its first {count} of 3 sentences (features --sentences)\n" in out
    status, out, err = run("features", *options)
    assert (status, f": 9 sentences, {9 - 3 * count} computed" in out) == (0, True)
    assert err.endswith(f"next: backattn train {shlex.join(options[:3])}\n")
    status, out, _ = run("check", *options[:3])
    assert (status, "--sentences" in out) == (0, False)
