"""Training of single nets: fine-tuning and comparisons."""
