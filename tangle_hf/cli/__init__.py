"""The console script `tangle-hf`."""
