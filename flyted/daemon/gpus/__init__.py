"""GPU leases: the queue for them, the table of who holds which, and the proof that their memory came back."""
