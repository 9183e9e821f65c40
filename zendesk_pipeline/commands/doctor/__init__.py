"""`zendesk-pipeline doctor`: is everything that the pipeline stands on as it has to be?

`checks` is the list of what is looked at, `verdicts` what comes of it, `patient` what it is asked with, and `examine`
runs them. One module for each area has the checks: a function that asks, and a pure one that judges what was said.
No verdict holds a credential, a name or address of a person, or anything of a record.
"""
