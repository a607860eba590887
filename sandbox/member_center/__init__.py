"""The stand-in for Member Center: OpenID provider, OAuth2 authorization server, and signer of download tokens.

- `app` routes, and what a browser sees
- `authorization` the Authlib server: grants, PKCE, tokens
- `clients` the registered OAuth2 clients
- `register` authorization codes, issued secrets, further gateways: what is kept on disk
- `texts` the pages' words in both languages
"""
