"""How fast the package is, beside its peers: what `superpoint-ros bench` and the scripts in benchmarks/ run."""
