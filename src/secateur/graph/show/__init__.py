"""The graph for people: explained in words, drawn, and as the matrices of the thesis."""
