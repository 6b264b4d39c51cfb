"""The partners' web front as a department: what lives of it, and who scrapes it. What it is stands in `partners`."""
