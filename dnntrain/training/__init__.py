"""The training loop and what it needs: no YAML, no registry, no disk."""
