"""`zendesk-pipeline takeover`: what Google's recipe has delivered, put into ledgers."""
