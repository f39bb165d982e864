"""Everything that an experiment file can name, one family a file."""
