"""A million rows, paid once: see `engine` for the way of a row."""
