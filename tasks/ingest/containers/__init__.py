"""What files are made of: each module here turns one kind of file into blocks of rows, in bounded memory."""
