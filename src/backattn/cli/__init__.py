"""The command line. One short function a command; the work is in the library.

Heavy packages are imported inside the commands that need them: ``check``, and a ``features`` that has
nothing to do, must not wait for torch.
"""

import os

import click

from backattn.cli.basics import corpus, demo, keys, recipes, sample
from backattn.cli.error_handling import OneLine
from backattn.cli.models import align, charlm, english, models, translator
from backattn.cli.stage_one import check, features, gc, pairs, show
from backattn.cli.stage_two import inspect, project, report, tag, train
from backattn.common.version import __version__

# Two threads that wait actively for each other on a busy machine take many times as long. The OpenMP
# runtime reads this once, when torch is imported, which is later.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@click.group(cls=OneLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="backattn")
def main() -> None:
    """Named entity recognition with what an English tagger knows (Back Attention).

    LANG is the name of a recipe in pipelines/ (de for pipelines/de.toml) or the path of one. Corpora
    lie below data/ (or $BACKATTN_DATA), everything that is made below cache/ (or $BACKATTN_CACHE).

    \b
    The way from a corpus to scores:
      backattn models de              once, where no translator or English tagger is at hand
      backattn features de            stage one: the expensive models, once for each sentence
      backattn train de               stage two: many small taggers on the cached features
      backattn report de              tables of the runs
    """


for _command in (
    *(recipes, keys, corpus, sample, demo),
    *(models, translator, charlm, english, align),
    *(features, check, show, pairs, gc),
    *(train, report, tag, inspect, project),
):
    main.add_command(_command)
