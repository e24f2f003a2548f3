"""Grants GPU leases: the queue of starts, the table of holders, and the check that memory was released."""
