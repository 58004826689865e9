"""Found nets beside baselines of equal cost."""
