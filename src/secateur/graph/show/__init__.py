"""The graph as text, picture and matrices: functions that the graph's methods delegate to."""
