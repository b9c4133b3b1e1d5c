"""The shapes of requests and answers: what OpenAPI is made of (architecture 8). Requests are also checked by them."""
