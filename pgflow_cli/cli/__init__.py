"""The executable: program, settings, output, views."""
