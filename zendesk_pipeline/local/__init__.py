"""Everything on one machine without an account: a Zendesk to run against, an S3 server, demo, dev, and the proof."""
