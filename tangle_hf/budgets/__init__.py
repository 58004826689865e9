"""Limits on costs, and the exact choice and exact draws within them."""
