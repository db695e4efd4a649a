"""Contracts without logic: the run config, the errors a user sees, and the columns of every table."""
