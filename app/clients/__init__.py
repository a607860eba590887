"""The three services that the gateway stands in front of, each behind one client with its own failures."""
