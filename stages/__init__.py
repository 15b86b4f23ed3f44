"""What one node of the DAG does: references in, one reference out, safe to run twice."""
