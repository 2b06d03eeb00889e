"""How values are read and written: times, JSON, safe text, words; pure."""
