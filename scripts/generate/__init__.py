"""Pages that are generated from the code, so that they are true. One module a page, each with `pages()`."""
