"""The gateway's files: uploads and their signed addresses, recipes of images, and the contexts of builds."""
