"""The old name of `zendesk_pipeline.model.streams`; it goes with version 0.2."""

import sys
import warnings

from zendesk_pipeline.model import streams as moved

warnings.warn(f"{__name__} is {moved.__name__} now: write that.", FutureWarning, stacklevel=2)
sys.modules[__name__] = moved
