"""Recording a forward pass as plain data: the tape, and how the model is left as it was."""
