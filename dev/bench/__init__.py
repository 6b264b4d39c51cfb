"""`make bench`: what the operator costs and how fast it is, against what people did before; everything in one run."""
