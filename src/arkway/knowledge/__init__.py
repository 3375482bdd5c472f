"""Documents that bots look things up in: read, cut into chunks, kept, and found again."""
