"""The OpenAPI document and the page that shows it. Works offline: everything it loads is in this package."""
