"""The one door: HyperSpy signal, numpy or dask array in, the same kind out."""
