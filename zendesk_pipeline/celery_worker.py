"""The old name of `zendesk_pipeline.orchestration.celery.worker`; it goes with version 0.2."""

import sys
import warnings

from zendesk_pipeline.orchestration.celery import worker as moved

warnings.warn(f"{__name__} is {moved.__name__} now: write that.", FutureWarning, stacklevel=2)
sys.modules[__name__] = moved
