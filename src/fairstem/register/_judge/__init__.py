"""The common-mode floor, and the assumptions measured on the result."""
