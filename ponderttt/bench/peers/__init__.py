"""What runs in the interpreter of a peer, which has torch."""
