"""What things mean, without input or output."""
