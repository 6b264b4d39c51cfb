"""What makes a laptop a cluster: a control plane, a simulated AWS, the shop and its faults. Never shipped."""
