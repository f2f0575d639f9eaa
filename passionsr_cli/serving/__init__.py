"""Upscaling in a browser and over HTTP: a page and an API on this machine, made with Gradio."""
