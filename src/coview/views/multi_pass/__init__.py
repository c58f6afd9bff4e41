"""Operations beyond the fused kernel, applied in passes of their own."""
