"""Effects: everything that talks to the world."""
