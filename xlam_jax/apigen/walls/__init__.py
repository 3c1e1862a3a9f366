"""Where code that is not ours runs: walls of the kernel, a warm process inside them, one fork a call."""
