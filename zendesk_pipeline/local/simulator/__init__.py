"""A simulated Zendesk: real HTTP, the quirks of the real one, and faults on demand.

Reading order: `history` (what exists and when it shows), `ticket_records` and `audit_log_records` (the bytes),
`source` (all streams together), `ticket_export`, `audit_log_list` and their like (Zendesk's answers), `accounts`,
`limits`, `faults`, `zendesk` (one account with all of it), `admin` (what tests ask and change), `server` and
`command`. `control` is the other end: the client that tests and the demo drive a running simulator with.
"""
