"""IJB-B and IJB-C 1:1: `python -m benchmarks.ijbc make|run|figures`."""
