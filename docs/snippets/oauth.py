"""An app that people sign in to with accounts elsewhere."""

from appkit import AppKit
from appkit.contrib import oauth

kit = AppKit(plugins=[oauth])
app = kit.app
