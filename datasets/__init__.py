"""Where examples come from: the stream simulator, MovieLens, and logs of the user's own."""
