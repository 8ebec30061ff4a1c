"""What `bench/run` measures with. Python's standard library only."""
