"""The distillation library: everything that does not depend on where it runs."""
