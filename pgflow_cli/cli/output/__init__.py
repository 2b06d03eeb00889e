"""What is written to the terminal: rows, messages, live screens."""
