"""The schema's history. Run by `app.database.migrate`, never by hand."""
