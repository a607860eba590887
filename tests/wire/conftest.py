"""Real sockets, direct and behind nginx as it is deployed. Each file starts the stacks that it needs."""
