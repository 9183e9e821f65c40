"""The project itself: docs, style, dependencies, and the first hour of a newcomer."""
