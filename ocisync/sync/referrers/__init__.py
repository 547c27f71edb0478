"""What goes along with an image because it refers to it."""
