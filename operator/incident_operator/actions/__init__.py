"""The catalogue: one file per target system; observes through a port, plans and judges purely."""
