"""The local server of `cotrace view`: the page, with saving and edits of the model. Imports no torch.

- `app`: the addresses of the server.
- `guard`: which requests are answered: hosts, origins, tokens, headers of responses.
- `bodies`: contents of requests, within limits of size and time.
- `files`: graph files: their versions, and saving what a user changed on the page.
- `edits`, `jobs`: edits of the model, one at a time, by an editor that the caller passes in.
- `serving`: sockets and uvicorn.
"""
