"""Real containers."""
