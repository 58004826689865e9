"""Parameters, FLOPs and latency of architectures."""
