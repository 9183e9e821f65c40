"""The pipeline measured against a bare loop on the same servers: `make bench`.

`account` is what there is to collect; `counting` counts within a measured process; `bare_loop` and `dagster_run` are
those processes; `measuring` runs them; `report` prints. `__main__` is the command.

`year` is another, with its own process (`year_process`), and the asset that does nothing (`floor`).
"""
