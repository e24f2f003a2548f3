"""Grants GPU leases: the queue of starts, the table of holders, and the check that memory was released.

flyted has the helper ``flyted-gpu`` read the GPUs, and then requests a pass of the loop, in which
``plan/gpus/queue.py`` decides about all waiting starts, in their order. A grant records the lease, opens the devices'
nodes to the starting unit (``SetUnitProperties(DeviceAllow=...)``) and answers systemd. A lease ends with its unit.
Its devices are free again when NVML reports that the memory was released (``reclaim.py``); if it is not, flyted first
kills what is left of the unit. A restarted daemon reads the leases from its database, and asks systemd which units
have ended meanwhile.

A start that finds no GPU waits in a bounded queue, and a pass each second looks again. An eviction is an action of
the pass, like any sleep, and is not carried out if a request has come since the look. While there is a lease, flyted
listens for the GPUs' errors (XID). Without leases and waiting starts, neither this nor ``flyted-gpu`` runs.
"""
