"""What runs and in which order: the graph, the local runner, the command line."""
