"""`POST /v1/moderations`: whether a text or a picture is harmful, by a vendor's model for that."""
