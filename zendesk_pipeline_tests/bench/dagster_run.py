"""A measured process: Dagster's own command line, counted."""

import runpy

from zendesk_pipeline_tests.bench import counting

if __name__ == "__main__":
    counting.start()
    runpy.run_module("dagster", run_name="__main__", alter_sys=True)
