"""The proof that the binding does what C does."""
