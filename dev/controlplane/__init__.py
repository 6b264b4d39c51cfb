"""A real Kubernetes control plane on loopback: built once from its Go modules, started in seconds."""
