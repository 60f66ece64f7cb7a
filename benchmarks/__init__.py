"""How protocols are run: one command each, reports in one schema."""
