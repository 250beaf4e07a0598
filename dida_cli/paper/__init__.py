"""What only the papers need: released layouts, reading the authors' checkpoints."""
