"""`python -m dnntrain` is the command `dnntrain`."""

from __future__ import annotations

from dnntrain.cli import main

if __name__ == "__main__":
    main()
