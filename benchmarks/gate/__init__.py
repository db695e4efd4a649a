"""What the gate's intervals cost, and whether they hold what they promise."""
