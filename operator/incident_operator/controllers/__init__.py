"""One file per kind: read, decide, persist, perform."""
