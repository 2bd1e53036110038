"""How the pages look: light and dark, wide and narrow."""

# How many colours the lines of a plot can have.
SERIES_COLOURS = 6

_PAGE = """
:root { color-scheme: light dark;
  --page: #fbfbf9; --card: #ffffff; --ink: #1c2126; --soft: #5c6670; --line: #dfe2e4; --zebra: #f5f6f5;
  --s0: #5b6b7b; --s1: #c2410c; --s2: #0f766e; --s3: #7c3aed; --s4: #b4236f; --s5: #2563eb;
  --heat: #c2410c; --good: #0f766e; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root {
  --page: #14171a; --card: #1b1f23; --ink: #e6e8ea; --soft: #9aa4ad; --line: #333a40; --zebra: #20252a;
  --s0: #94a6b8; --s1: #fb923c; --s2: #2dd4bf; --s3: #a78bfa; --s4: #f472b6; --s5: #60a5fa;
  --heat: #fb923c; --good: #2dd4bf; --bad: #f28b82; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 76rem;
  background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  -webkit-text-size-adjust: 100%; }
h1 { font-size: 1.55rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .5rem; }
p { margin: .5rem 0; } .soft { color: var(--soft); font-size: .875rem; }
ul { padding-left: 1.2rem; margin: .6rem 0; } li { margin: .2rem 0; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .42rem .75rem; text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; white-space: normal; border-bottom: 1px solid var(--line);
  vertical-align: bottom; }
tbody tr:nth-child(even) { background: var(--zebra); }
tbody tr.first td { border-top: 1px solid var(--line); }
@media (max-width: 40rem) { table { font-size: .82rem; } th, td { padding: .38rem .45rem; } }
.words { text-align: left; } td.words { white-space: normal; overflow-wrap: break-word; }
td.good { color: var(--good); font-weight: 600; } td.bad { color: var(--bad); font-weight: 600; }
code { font: .8rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.recipe { color: var(--soft); }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .7rem; max-width: 48rem; }
figcaption { font-size: .9rem; font-weight: 600; margin: 0 0 .3rem .2rem; }
.plots { display: grid; gap: .9rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); }
svg { display: block; } .plot { width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 12px; font-family: inherit; }
svg .grid { stroke: var(--line); stroke-width: 1; } svg .axis { stroke: var(--soft); stroke-width: 1; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .85rem; margin: .6rem 0;
  padding: 0; list-style: none; }
.legend li { display: flex; align-items: center; gap: .45rem; margin: 0; }
details { margin: 1.2rem 0; } summary { cursor: pointer; font-weight: 600; margin-bottom: .5rem; }
.tokens { line-height: 2.3; }
.entity { border-radius: .3rem; padding: .12rem .35rem; box-decoration-break: clone;
  border: 1px solid var(--heat); background: color-mix(in srgb, var(--heat) 14%, transparent); }
.entity small { color: var(--soft); font-size: .68rem; margin-left: .3rem; }
svg .strong { fill: var(--ink); } svg .tag { fill: var(--heat); font-weight: 600; }
svg .wrong { fill: var(--bad); font-weight: 600; } svg .cell { fill: var(--heat); }
svg .frame { fill: none; stroke: var(--line); }
"""


def _series(number: int) -> str:
    """Line, band and dot of one line of a plot."""
    colour = f"var(--s{number})"
    return (
        f"svg .s{number} {{ stroke: {colour}; fill: none; }} svg .d{number} {{ fill: {colour}; }}\n"
        f"svg .b{number} {{ fill: {colour}; fill-opacity: .16; }}\n"
    )


STYLE = _PAGE + "".join(map(_series, range(SERIES_COLOURS)))
