"""One folder per model family; families know transformers, not each other."""
