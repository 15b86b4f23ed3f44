"""DeepSpeed: training engine, sharded teacher and memory model."""
