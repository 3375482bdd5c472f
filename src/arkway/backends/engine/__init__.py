"""The embedded chat engine: llama.cpp in a supervised child process per model, spoken to over a Unix socket."""
