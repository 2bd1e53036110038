"""Components of other tools: each file here is the only one that imports its tool."""
