"""Runnable examples of `sse_batching`. `examples.demo` is the page that `make demo` shows."""
