"""The one function of SGLang's CPU kernels that a dense model needs, in plain torch.

The real library is published as CUDA builds alone, and asks for a processor with AMX. Everything else of SGLang is
real.
"""

__version__ = "0.4.10"


def assign_req_to_token_pool_cpu(req_pool_indices, req_to_token, starts, ends, out_cache_loc, _pool_len):
    """Writes each request's new cache places into its row of the table."""
    at = 0
    for row, start, end in zip(req_pool_indices.tolist(), starts.tolist(), ends.tolist(), strict=True):
        length = end - start
        req_to_token[row, start:end] = out_cache_loc[at : at + length].to(req_to_token.dtype)
        at += length


def __getattr__(name):
    """Other names are imported, and fail only when they are called."""
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*_args, **_options):
        raise NotImplementedError(f"sgl_kernel.{name} is not in the stand-in")

    return missing
