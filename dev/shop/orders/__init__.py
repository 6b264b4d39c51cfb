"""The orders department: a PostgreSQL with orders, and the web hosts that ask it."""
