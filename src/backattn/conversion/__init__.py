"""Convert labelled files of other tools to column files or JSON lines, which a corpus is read from.

Each module reads one kind of file; :mod:`~backattn.conversion.convert` chooses it, and writes the result. A
library of the field is imported by its own module alone, and only for its own kind.
"""
