"""GPUs: what there is, who gets which, who must sleep for it, and when the memory is free again."""
