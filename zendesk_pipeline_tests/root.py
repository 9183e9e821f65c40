"""Where the project lies: what the tests read of it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
