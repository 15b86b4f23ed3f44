"""The library: everything about distillation that stays true on one laptop."""
