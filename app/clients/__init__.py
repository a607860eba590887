"""The clients of the three upstreams. They turn the failures of the upstreams into those of the gateway."""
