"""To import this is to have everything ready that collections need: the process that they are forked from does."""

import gc

from zendesk_pipeline_tests import engines, forked, read_once

read_once.from_now_on()
engines.keep(connected=False)
forked.run_once()
gc.collect()
gc.freeze()
