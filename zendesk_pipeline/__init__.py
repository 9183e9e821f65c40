"""Zendesk logs to Amazon S3 in hourly windows, each record exactly once.

Packages import downwards, which `make check` holds them to:

    cli, commands                       the command line
    definitions, components, wiring     what Dagster loads
    alerts                              what is wrong, who was told, and the sending
    local                               a simulated Zendesk, an S3 server, demo, dev, the proof
    orchestration                       Dagster's ends: assets, IO manager, schedules, sensors, checks
    zendesk, delivery                   asking Zendesk; records into the bucket, each once
    settings                            what a deployment chooses
    model                               what is collected, as data and bytes

To read the code, follow a record: `zendesk.walk` asks for pages through `zendesk.client`, `model.records` splits a page
without re-encoding it, `delivery.window_writer` puts records into S3 once, by `delivery.object_keys`, `ledger` and
`bucket`; `orchestration.io_manager` and `assets` are the Dagster ends of that path, `schedules`, `catch_up` and
`catch_up_sensor` say when it is walked.
"""
