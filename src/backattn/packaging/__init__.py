"""``backattn package``: a folder of a finished run that tags on another machine, with its model card."""
