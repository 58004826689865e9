"""Model cards, and commits on the Hub."""
