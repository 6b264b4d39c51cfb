"""The CRD contract of `ops.shopsmart.com/v1alpha1`: frozen models, no logic."""
