"""What runs after training: evaluation, export, prediction and the pictures of the attention."""
