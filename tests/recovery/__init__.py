"""What a recovery means and what a drill has proven."""
