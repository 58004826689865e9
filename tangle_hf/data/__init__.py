"""Examples to train and to score on: text and images, read, checked and split."""
