"""What is collected, as data and bytes: windows, streams and their paging, records, redaction, errors, the clock.

Pure: no network, no files but the rules that come along, no environment.
"""
