"""`zendesk-pipeline metrics`: `facts` reads Dagster's records, `exposition` names them, `command` hands them out."""
