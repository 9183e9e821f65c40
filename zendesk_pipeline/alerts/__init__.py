"""What is wrong, who was told, and the sending."""
