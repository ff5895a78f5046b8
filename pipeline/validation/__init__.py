"""The validation of a dataset: what it holds, what is wrong with it, and a report of both."""
