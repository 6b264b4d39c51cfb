"""What partners are given: a user with an access key, which can leak."""
