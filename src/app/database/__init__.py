"""The database: engine and pool, tenant-scoped transactions, migrations, and a PostgreSQL of our own for trying."""
