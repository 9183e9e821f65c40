"""What the project promises, tried from end to end: exact delivery under faults, crashes and hostile input."""
