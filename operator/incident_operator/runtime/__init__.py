"""The process: watch, queue, leader, HTTP server."""
