"""A stock pipeline's other parts, trained here: autoencoder, tokenizer and text encoder."""
