"""Block matching with collaborative filtering, for places without a crystal."""
