"""How long tests wait for what has to come."""

PATIENCE_SECONDS = 400  # for what takes ten seconds on a quiet machine: it bounds a hang, and says nothing of speed
