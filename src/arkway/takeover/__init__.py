"""Standing in for the vendor's hosts: a certificate authority of our own, and TLS with what it issues."""
