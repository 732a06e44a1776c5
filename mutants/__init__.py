"""Changes the heart on purpose, one place at a time, and asks its tests whether they notice. Beside the program, not in it."""
