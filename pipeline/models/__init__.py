"""Networks behind one calling convention."""
