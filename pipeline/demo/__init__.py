"""Components of the demo pipelines: autoencoder, tokenizer and text encoder."""
