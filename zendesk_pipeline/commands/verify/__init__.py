"""`zendesk-pipeline verify`: Zendesk, ledgers and objects of a past range, compared."""
