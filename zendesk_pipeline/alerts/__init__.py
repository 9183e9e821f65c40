"""What is wrong, which address was told what, and the sending."""
