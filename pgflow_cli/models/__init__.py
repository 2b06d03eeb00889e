"""Rows and filters as values, a module for each noun."""
