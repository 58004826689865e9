"""One folder per model family; families know transformers and the files shared here, not each other."""
