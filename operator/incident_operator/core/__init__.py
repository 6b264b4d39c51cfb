"""Pure decisions: no I/O, no clock, no randomness. Facts and instants come in, decisions go out."""
