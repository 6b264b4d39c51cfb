"""What partners are given: a user with an access key, and an API with keys of its own; either can leak."""
