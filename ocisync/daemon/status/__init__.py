"""What the daemon tells of itself: running copies, what fails, the last day; as a document and as a page."""
