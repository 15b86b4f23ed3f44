"""Data sets of the demos, composed from scikit-learn's digit scans."""
