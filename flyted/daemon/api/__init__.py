"""The sockets on which flyted answers: who calls, what the caller may do, and the verbs."""
