"""Reports of runs as tables, plots and pages. Imports neither torch nor a plotting library.

:mod:`~backattn.report.runs` reads run folders, :mod:`~backattn.report.lineage` traces the stores that they
read, :mod:`~backattn.report.comparison` groups them into rows and compares these
(:mod:`~backattn.report.significance` computes the intervals), :mod:`~backattn.report.tables` writes Markdown,
JSON and, through :mod:`~backattn.report.page`, HTML. :mod:`~backattn.report.inspection` shows one sentence.
"""
