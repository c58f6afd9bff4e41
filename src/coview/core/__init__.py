"""The nouns and seams that every room may use: errors, keys, files, progress, images, batches."""
