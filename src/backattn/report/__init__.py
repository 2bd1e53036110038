"""Runs -> tables, plots and pages. Reads what the stages left; imports neither torch nor a plotting library.

:mod:`~backattn.report.runs` reads run folders, :mod:`~backattn.report.lineage` says where the stores that
they read came from, :mod:`~backattn.report.comparison` makes rows and differences of them
(:mod:`~backattn.report.significance` says how sure these are),
:mod:`~backattn.report.tables` writes Markdown, JSON and, through :mod:`~backattn.report.page`, HTML.
:mod:`~backattn.report.inspection` shows one sentence.
"""
