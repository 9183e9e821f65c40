"""Servers and stand-ins that tests speak to."""
