"""What all routes share: exception → response, request context, bodies, SSE, cursor pages."""
