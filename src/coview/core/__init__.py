"""What every package may import: errors, random numbers, files, images, ranks, texts."""
