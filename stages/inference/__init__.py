"""Use of a trained bundle: sampling, editing, style transfer, playground."""
