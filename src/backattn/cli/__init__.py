"""The command line: one short function for each command; the work is done in the library.

Heavy packages are imported inside the commands that need them, so that ``check``, and a ``features`` with
nothing to compute, need not wait for torch.
"""

import os

import click

from backattn.cli.basics import corpus, demo, keys, recipes, sample
from backattn.cli.conversion import convert
from backattn.cli.error_handling import ErrorHandlingGroup
from backattn.cli.init import init
from backattn.cli.models import align, charlm, english, models, translator, vectors
from backattn.cli.stage_one import check, features, gc, pairs, show
from backattn.cli.stage_two import evaluate, inspect, package, project, report, runs, tag, train
from backattn.common.cores import limit_openmp_threads
from backattn.common.version import __version__

# Two threads that wait actively for each other on a busy machine take many times as long. The OpenMP
# runtime reads this once, when torch is imported, which is later.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
limit_openmp_threads()


@click.group(cls=ErrorHandlingGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="backattn")
def main() -> None:
    """Named entity recognition for languages with little labelled data, by Back Attention.

    LANG is the name of a recipe in pipelines/ (de for pipelines/de.toml) or the path of a recipe.
    Corpora lie below data/ (or $BACKATTN_DATA), all results below cache/ (or $BACKATTN_CACHE).

    \b
    From a corpus to scores:
      backattn init NAME TRAIN DEV TEST   write a recipe for your own files
      backattn models de              train the translator and the English tagger, once
      backattn features de            stage one: run these models once for each sentence
      backattn train de               stage two: train small taggers on the cached features
      backattn report de              print tables of the runs
    """


for _command in (
    *(init, recipes, keys, corpus, convert, sample, demo),
    *(models, translator, charlm, vectors, english, align),
    *(features, check, show, pairs, gc),
    *(train, runs, report, tag, evaluate, inspect, project, package),
):
    main.add_command(_command)
