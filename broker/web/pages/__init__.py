"""What people look at: each module has the routes of one page, as `routes(subject)`."""
