"""Contracts without logic: the run config, the errors a user sees, the columns of tables."""
