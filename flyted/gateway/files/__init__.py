"""Stores the gateway's files: uploads by signed addresses, recipes of images, and contexts of builds."""
