"""Stages of one distillation round: targets, training, promotion."""
