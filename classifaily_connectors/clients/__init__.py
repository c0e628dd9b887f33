"""The parts of the two clients."""
