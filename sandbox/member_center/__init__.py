"""The stand-in for Member Center: OpenID provider, OAuth2 authorization server, and signer of download tokens.

- `app` has the routes and pages
- `authorization` is the Authlib server: grants, PKCE, tokens
- `clients` has the registered OAuth2 clients
- `register` stores authorization codes, issued secrets and further gateways on disk
- `texts` has the texts of the pages in both languages
"""
