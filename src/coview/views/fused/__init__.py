"""The fused CPU kernel: one view at a time, block by block, without leaving the cache.

Structure of a view: weights of both axes; then for each block of rows the vertical pass over
packed RGBX bytes, the horizontal pass over four lanes a pixel into planes, and the color
operations before contrast, summing gray as they end; then a second sweep for contrast and
everything after; then the blur. Only ``views.py`` is cached; its cache key holds a digest of all
files here, because numba by itself would look at that one file's date alone.
"""
