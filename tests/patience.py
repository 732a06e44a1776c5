"""How long a test waits for what must come. Only a hang is meant by it: a busy machine takes its time."""

PATIENCE_S = 150.0
