"""The code location of the stories: Dagster loads `defs` of this module by its name."""

import dagster as dg

defs: dg.Definitions = dg.Definitions()
"""Those of the story that is being told."""
