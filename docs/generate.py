"""Rewrite what is made from the registry; with --check, only say whether it is up to date.

That is docs/reference.md, and the table of defaults by which runs of different versions are compared without torch.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from dnntrain.spec.reference import defaults, markdown

DOCS = Path(__file__).parent
DEFAULTS = DOCS.parent / "dnntrain" / "compare" / "defaults.json"


def main() -> int:
    """Write or check the files; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a file is stale")
    made = {DOCS / "reference.md": markdown(), DEFAULTS: json.dumps(defaults(), indent=1, sort_keys=True) + "\n"}
    if not parser.parse_args().check:
        for path, text in made.items():
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.name}")
        return 0
    stale = [path.name for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if stale:
        print(f"stale: {', '.join(stale)}; run 'make docs'", file=sys.stderr)
        return 1
    print(f"{' and '.join(path.name for path in made)} are up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
