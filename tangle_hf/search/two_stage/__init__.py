"""Methods of two stages: weights on single subnets, then a search over candidates."""
