"""Zendesk logs to Amazon S3 in hourly windows, each record exactly once.

To read the code, follow the data: `definitions` wires everything; `streams` says what is collected;
`pages` walks Zendesk's pages through `client` (and its `credentials`, `limits` and `refusals`);
`records` splits a page without re-encoding it; `delivery` puts records into S3 once, by `keys`, `ledger`
and `store`; `io_manager` and `assets` are the Dagster ends of that path, `schedules`, `catch_up`
and `sensors` say when it is walked.
"""
