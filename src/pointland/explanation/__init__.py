"""What is behind one picture: maps of its dimensions, walks on the manifold, spectrum and curve."""
