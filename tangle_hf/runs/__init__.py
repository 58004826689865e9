"""What a run folder is, from its first file to its report."""
