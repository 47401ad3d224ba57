"""What one would use instead of retl, each in an environment of its own: see README.md."""
