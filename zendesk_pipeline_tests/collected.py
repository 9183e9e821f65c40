"""The streams that are collected where RESOURCES is not set: what the tests of whole runs go through."""

from zendesk_pipeline.model import streams

COLLECTED = {name: streams.STREAMS[name] for name in streams.COLLECTED_BY_DEFAULT}
"""By name."""
