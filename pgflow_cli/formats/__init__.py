"""Reads and writes values: times, JSON, safe text, counts and lists; pure."""
