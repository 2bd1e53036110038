"""Convert labelled files of other tools to column files or JSON lines, from which a corpus is read.

Each module reads one kind of file; :mod:`~backattn.conversion.convert` chooses it, and writes the result.
Only the module of a kind imports the library that the kind needs (spaCy, pyarrow), when it reads a file.
"""
