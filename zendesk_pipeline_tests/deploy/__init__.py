"""What lies in deploy/, and several machines."""
