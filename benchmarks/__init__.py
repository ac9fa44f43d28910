"""What rowjournal costs beside its peers: ``python -m benchmarks``."""
