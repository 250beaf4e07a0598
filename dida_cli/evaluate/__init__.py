"""What the pictures are worth, in numbers."""
