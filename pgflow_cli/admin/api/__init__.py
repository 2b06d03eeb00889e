"""What each path answers; a module for each noun, its routes at its end."""
