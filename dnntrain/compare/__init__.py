"""Comparing runs: who won, by how much, and whether it is luck."""
