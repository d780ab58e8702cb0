"""What the pictures, readings and tables of all analyses share: style, axes, numbers, sources, export. Never imports torch."""
