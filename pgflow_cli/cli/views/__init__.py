"""Screens of several columns, a module for each noun."""
