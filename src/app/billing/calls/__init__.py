"""Reading calls: pages of them, newest first, and files of them, oldest first."""
