"""Rewrite docs/reference.md from the registry; with --check, only say whether it is up to date."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dnntrain.spec.reference import markdown

PAGE = Path(__file__).with_name("reference.md")


def main() -> int:
    """Write or check the page; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the page is stale")
    text = markdown()
    if not parser.parse_args().check:
        PAGE.write_text(text, encoding="utf-8")
        print(f"wrote {PAGE.name}")
        return 0
    if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        print(f"{PAGE.name} is stale: run 'make docs'", file=sys.stderr)
        return 1
    print(f"{PAGE.name} is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
