"""Images: read from folders, files and the Hub, checked, split and transformed (extra `vision`)."""
