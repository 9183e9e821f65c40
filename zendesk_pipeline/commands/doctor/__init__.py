"""`zendesk-pipeline doctor`: checks everything that the pipeline depends on.

`check_list` has the checks, `context` what they work with, `runner` runs them, `verdicts` has their results. One module
for each area has a function for each check, and a pure one that judges the answers where there are many cases.
No verdict holds a credential, a name or address of a person, or anything of a record.
"""
