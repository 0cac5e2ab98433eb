"""The editor of ComfyUI in a browser: what the tests of both folders share."""
