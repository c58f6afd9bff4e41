"""The fused CPU kernels: sample.py draws the parameters of views, render.py renders them.

A view is rendered block by block, without leaving the cache: the weights of both axes; then for
each block of rows the vertical pass over packed RGBX bytes, the horizontal pass over four lanes a
pixel into planes, and the color operations before contrast, with the sum of gray; then a second
sweep for contrast and everything after; then the blur. Numba caches render.py under a key that
holds a digest of all files here, because numba itself checks the date of that one file only.
"""
