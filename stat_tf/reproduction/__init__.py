"""The paper's tables as one command: which runs their rows need, and what came of them."""
