"""``python -m backattn``: the command line."""

import sys

if __name__ == "__main__":
    # -m lets the current folder come first: a `torch.py` there would run in place of the library.
    if not sys.flags.safe_path:
        del sys.path[0]
    from backattn.cli import main

    main(prog_name="backattn")
