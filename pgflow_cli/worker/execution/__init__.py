"""Runs handlers: threads, one event loop, executables; knows no database."""
