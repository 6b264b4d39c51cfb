"""Incident Operator: an incident runbook as declarative reconciliation on Kubernetes."""

__version__ = "0.1.0"
