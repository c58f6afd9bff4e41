"""What the fused kernel lacks: AutoAugment, RandAugment, Rotate90, Sobel, noise and cutout.

sample.py draws their parameters (the fields of FULL_ROW beyond FUSED_ROW); auto_augment.py and
tensor_operations.py apply them with torch, in passes before and after the fused kernel's.
compositions.py has the plans of the papers' experiments that need them.
"""
