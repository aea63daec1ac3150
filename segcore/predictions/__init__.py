"""Instance predictions in files, whoever made them."""
